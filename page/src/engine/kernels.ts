// The arithmetic of a decoding step: WebAssembly with SIMD where there is one, else JavaScript.

import { PlainKernels } from "./plain_kernels";

/** Kernels over one block of memory; see `kernels/simd.ts` for what each computes. */
export interface Kernels {
  /** The memory, as single precision and as the bits of half precision. Replaced when it grows. */
  readonly f32: Float32Array;
  readonly u16: Uint16Array;
  /** Makes the memory at least so large; what it holds stays. */
  grow(bytes: number): void;
  matmul(out: number, x: number, weights: number, rows: number, nIn: number, nOut: number): void;
  matmulHalf(out: number, x: number, weights: number, rows: number, nIn: number, nOut: number, scratch: number): void;
  add(x: number, y: number, n: number): void;
  gelu(x: number, n: number): void;
  silu(out: number, gate: number, up: number, n: number): void;
  lstm(hidden: number, cell: number, gates: number, n: number): void;
  attend(out: number, query: number, keys: number, values: number, scores: number,
    dim: number, nKeys: number, scale: number): void;
}

type Functions = Omit<Kernels, "f32" | "u16" | "grow">;
const PAGE_BYTES = 65_536;

/** Compiles the kernels; in plain JavaScript where the engine has no SIMD, or `isPlain`. */
export async function loadKernels(wasm: BufferSource, isPlain = false): Promise<Kernels> {
  const bytes = wasm as ArrayBuffer;
  if (isPlain || !WebAssembly.validate(bytes)) return new PlainKernels();
  const memory = new WebAssembly.Memory({ initial: 1 });
  const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
  const kernels = {
    ...(instance.exports as unknown as Functions),
    f32: new Float32Array(memory.buffer),
    u16: new Uint16Array(memory.buffer),
    grow(size: number): void {
      const missing = size - memory.buffer.byteLength;
      if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES));
      this.f32 = new Float32Array(memory.buffer);
      this.u16 = new Uint16Array(memory.buffer);
    },
  };
  return kernels;
}
