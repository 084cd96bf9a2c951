// A safetensors file -> named tensors of float32, and their places in the kernels' memory.

import type { Kernels } from "./kernels";

/** A matrix, or a vector as one row. */
export interface Tensor {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
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
    const values = dtype === "F32" ? new Float32Array(bytes) : fromHalf(new Uint16Array(bytes));
    tensors.set(name, { rows: shape.length > 1 ? shape[0] : 1, columns: n / (shape.length > 1 ? shape[0] : 1), values });
  }
  return tensors;
}

/** Widens IEEE half precision: (n,) bit patterns to (n,) float32. */
function fromHalf(halves: Uint16Array): Float32Array {
  const wide = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const exponent = (halves[i] >> 10) & 31;
    const fraction = halves[i] & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    wide[i] = halves[i] & 0x8000 ? -size : size;
  }
  return wide;
}

export const padded = (n: number) => (n + 3) & ~3;

/** Hands out the kernels' memory, and copies weights into it. */
export class Memory {
  private end = 1024; // the first bytes belong to the compiled module

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
    return this.copy(this.tensor(name, 1, n));
  }

  /**
   * Copies a matrix, whose rows and columns are groups (heads, gates) each of which is padded with
   * zeros to a multiple of 4; the rows as a whole, too.
   */
  copy(matrix: Tensor, rowGroups = 1, columnGroups = 1): number {
    const [height, width] = [matrix.rows / rowGroups, matrix.columns / columnGroups];
    const tall = matrix.rows === 1 ? 1 : padded(height);
    const stride = padded(width) * columnGroups;
    const offset = this.allocate(tall * rowGroups * stride);
    const memory = this.kernels.f32;
    for (let row = 0; row < matrix.rows; row++) {
      const placed = Math.floor(row / height) * tall + (row % height);
      for (let group = 0; group < columnGroups; group++) {
        const from = row * matrix.columns + group * width;
        memory.set(
          matrix.values.subarray(from, from + width),
          offset / 4 + placed * stride + group * padded(width),
        );
      }
    }
    return offset;
  }
}

/** Stacks matrices of one width. */
export function stack(...parts: Tensor[]): Tensor {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const values = new Float32Array(rows * parts[0].columns);
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
  const values = new Float32Array(left.rows * columns);
  for (let row = 0; row < left.rows; row++) {
    values.set(left.values.subarray(row * left.columns, (row + 1) * left.columns), row * columns);
    values.set(
      right.values.subarray(row * right.columns, (row + 1) * right.columns),
      row * columns + left.columns,
    );
  }
  return { rows: left.rows, columns, values };
}
