// A safetensors file -> named tensors, and their places in the kernels' memory.

import { widened } from "./halves";
import type { Kernels } from "./kernels";

type Values = Float32Array | Uint16Array; // the latter: bits of half precision

/** A matrix, or a vector as one row. */
export interface Tensor {
  readonly rows: number;
  readonly columns: number;
  readonly values: Values;
}

/** Weights (nOut, nIn) in memory, to multiply with. */
export interface Matrix {
  readonly offset: number;
  readonly isHalf: boolean;
}

const MOST_HEADER_BYTES = 10_000_000;
const BYTES: Record<string, number> = { F16: 2, F32: 4 };

/**
 * Reads the tensors of a safetensors file.
 *
 * @throws Error if the file is cut off or malformed, or holds other types than F16 and F32.
 */
export function readTensors(file: ArrayBuffer): Map<string, Tensor> {
  const size = file.byteLength < 8 ? -1 : Number(new DataView(file).getBigUint64(0, true));
  if (size < 2 || size > MOST_HEADER_BYTES || 8 + size > file.byteLength) {
    throw new Error(`the weights are no safetensors file (${file.byteLength} bytes)`);
  }
  let header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, size)));
  } catch {
    throw new Error("the weights are no safetensors file: its header is not JSON");
  }
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: [start, stop] } = entry;
    const n = shape.reduce((product, extent) => product * extent, 1);
    if (!BYTES[dtype] || stop - start !== n * BYTES[dtype] || 8 + size + stop > file.byteLength) {
      throw new Error(`weights ${name} (${dtype}, ${shape}) are cut off or of an unknown type`);
    }
    const bytes = file.slice(8 + size + start, 8 + size + stop);
    const values = dtype === "F32" ? new Float32Array(bytes) : new Uint16Array(bytes);
    tensors.set(name, { rows: shape.length > 1 ? shape[0] : 1, columns: n / (shape.length > 1 ? shape[0] : 1), values });
  }
  return tensors;
}

export const padded = (n: number) => (n + 3) & ~3;

/** Hands out the kernels' memory, and copies weights into it. */
export class Memory {
  private end = 1024; // the first bytes belong to the compiled module
  private scratch = 0; // where some rows of the widest matrix are widened
  private scratchWidth = 0;

  constructor(readonly kernels: Kernels, private readonly tensors: Map<string, Tensor>) {}

  /** Returns the byte offset of n zeros. */
  allocate(n: number): number {
    const offset = this.end;
    this.end += padded(n) * 4;
    this.kernels.grow(this.end);
    return offset;
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** Returns weights by name, of the given shape. */
  tensor(name: string, rows: number, columns: number): Tensor {
    const found = this.tensors.get(name);
    if (!found || found.rows !== rows || found.columns !== columns) {
      const shape = found ? `${found.rows} x ${found.columns}` : "missing";
      throw new Error(`weights ${name} are ${shape}, expected ${rows} x ${columns}`);
    }
    return found;
  }

  vector(name: string, n: number): number {
    return this.single(this.tensor(name, 1, n)).offset;
  }

  /** Copies values in single precision; for the groups see `matrix`. */
  single(tensor: Tensor, rowGroups = 1, columnGroups = 1): Matrix {
    return this.matrix({ ...tensor, values: inSingle(tensor.values) }, rowGroups, columnGroups);
  }

  /**
   * Copies a matrix as it is, whose rows and columns are groups (heads, gates) each of which is
   * padded with zeros to a multiple of 4; the rows as a whole, too.
   */
  matrix({ rows, columns, values }: Tensor, rowGroups = 1, columnGroups = 1): Matrix {
    const [height, width] = [rows / rowGroups, columns / columnGroups];
    const tall = rows === 1 ? 1 : padded(height);
    const stride = padded(width) * columnGroups;
    const isHalf = values instanceof Uint16Array;
    const offset = this.allocate(tall * rowGroups * stride / (isHalf ? 2 : 1));
    if (isHalf && stride > this.scratchWidth) {
      this.scratchWidth = stride;
      this.scratch = this.allocate(4 * stride);
    }
    const memory = isHalf ? this.kernels.u16 : this.kernels.f32;
    const start = offset / memory.BYTES_PER_ELEMENT;
    for (let row = 0; row < rows; row++) {
      const placed = Math.floor(row / height) * tall + (row % height);
      for (let group = 0; group < columnGroups; group++) {
        const from = row * columns + group * width;
        memory.set(values.subarray(from, from + width), start + placed * stride + group * padded(width));
      }
    }
    return { offset, isHalf };
  }

  /** out (rows, nOut) = x (rows, nIn) times the transpose of a matrix (nOut, nIn). */
  multiply(out: number, x: number, { offset, isHalf }: Matrix, rows: number, nIn: number, nOut: number): void {
    if (isHalf) this.kernels.matmulHalf(out, x, offset, rows, nIn, nOut, this.scratch);
    else this.kernels.matmul(out, x, offset, rows, nIn, nOut);
  }
}

/** The same values in single precision. */
export function inSingle(values: Values): Float32Array {
  return values instanceof Uint16Array ? widened(values) : values;
}

/** An array of the same kind, of n zeros. */
function emptyLike(values: Values, n: number): Values {
  return values instanceof Uint16Array ? new Uint16Array(n) : new Float32Array(n);
}

/** Stacks matrices of one width. */
export function stack(...parts: Tensor[]): Tensor {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const values = emptyLike(parts[0].values, rows * parts[0].columns);
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at);
    at += part.values.length;
  }
  return { rows, columns: parts[0].columns, values };
}

/** Puts two matrices of one height side by side. */
export function beside(left: Tensor, right: Tensor): Tensor {
  const columns = left.columns + right.columns;
  const values = emptyLike(left.values, left.rows * columns);
  for (let row = 0; row < left.rows; row++) {
    values.set(left.values.subarray(row * left.columns, (row + 1) * left.columns), row * columns);
    values.set(
      right.values.subarray(row * right.columns, (row + 1) * right.columns),
      row * columns + left.columns,
    );
  }
  return { rows: left.rows, columns, values };
}
