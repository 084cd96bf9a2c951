// The kernels of `kernels/simd.ts` in plain JavaScript, bit for bit: every operation is rounded to
// float32, and sums run over four lanes in the same order. Change both.

import { widened } from "./halves";
import type { Kernels } from "./kernels";

const f = Math.fround;
const LOG2E = f(1.44269504088896341);
const LN2 = [f(0.693359375), f(-2.1219444e-4)] as const;
const EXP = [1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
  5.0000001201e-1].map(f);
const ERF = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592].map(f);
const ERF_SCALE = f(0.3275911);
const ROOT_HALF = f(0.70710678118654752);
const LOWEST = f(-3.4e38);
const bits = new Int32Array(1);
const power = new Float32Array(bits.buffer);

function polynomial(coefficients: number[], x: number): number {
  let p = coefficients[0];
  for (let i = 1; i < coefficients.length; i++) p = f(f(p * x) + coefficients[i]);
  return p;
}

function exp(given: number): number {
  const x = Math.min(Math.max(given, -87), 88);
  const n = Math.floor(f(f(x * LOG2E) + 0.5));
  const r = f(f(x - f(n * LN2[0])) - f(n * LN2[1]));
  bits[0] = (n + 127) << 23;
  return f(f(f(f(f(polynomial(EXP, r) * r) * r) + r) + 1) * power[0]);
}

const sigmoid = (x: number) => f(1 / f(1 + exp(-x)));
const tanh = (x: number) => f(1 - f(2 / f(exp(f(x + x)) + 1)));

function erf(x: number): number {
  const t = f(1 / f(f(Math.abs(x) * ERF_SCALE) + 1));
  const found = f(1 - f(f(polynomial(ERF, t) * t) * exp(f(-f(x * x)))));
  return x < 0 || Object.is(x, -0) ? -Math.abs(found) : Math.abs(found);
}

/** The kernels over memory of their own; as in `simd.ts`, pointers are byte offsets. */
export class PlainKernels implements Kernels {
  f32 = new Float32Array(0);
  u16 = new Uint16Array(0);

  grow(bytes: number): void {
    const larger = new Float32Array(bytes >> 2);
    larger.set(this.f32);
    this.f32 = larger;
    this.u16 = new Uint16Array(larger.buffer);
  }

  matmul(out: number, x: number, weights: number, rows: number, nIn: number, nOut: number): void {
    const m = this.f32;
    for (let o = 0; o < nOut; o++) {
      const w = (weights >> 2) + o * nIn;
      for (let row = 0; row < rows; row++) {
        m[(out >> 2) + row * nOut + o] = this.dot((x >> 2) + row * nIn, w, nIn);
      }
    }
  }

  matmulHalf(out: number, x: number, weights: number, rows: number, nIn: number, nOut: number, scratch: number): void {
    for (let o = 0; o < nOut; o++) {
      const from = (weights >> 1) + o * nIn;
      this.f32.set(widened(this.u16.subarray(from, from + nIn)), scratch >> 2);
      for (let row = 0; row < rows; row++) {
        this.f32[(out >> 2) + row * nOut + o] = this.dot((x >> 2) + row * nIn, scratch >> 2, nIn);
      }
    }
  }

  private dot(a: number, b: number, n: number): number {
    const m = this.f32;
    let s0 = f(0), s1 = f(0), s2 = f(0), s3 = f(0);
    for (let i = 0; i < n; i += 4) {
      s0 = f(s0 + f(m[b + i] * m[a + i]));
      s1 = f(s1 + f(m[b + i + 1] * m[a + i + 1]));
      s2 = f(s2 + f(m[b + i + 2] * m[a + i + 2]));
      s3 = f(s3 + f(m[b + i + 3] * m[a + i + 3]));
    }
    return f(f(s0 + s1) + f(s2 + s3));
  }

  add(x: number, y: number, n: number): void {
    const m = this.f32;
    for (let i = 0; i < n; i++) m[(x >> 2) + i] += m[(y >> 2) + i];
  }

  gelu(x: number, n: number): void {
    const m = this.f32;
    for (let i = x >> 2; i < (x >> 2) + n; i++) {
      m[i] = f(m[i] * 0.5) * f(1 + erf(f(m[i] * ROOT_HALF)));
    }
  }

  silu(out: number, gate: number, up: number, n: number): void {
    const m = this.f32;
    for (let i = 0; i < n; i++) {
      const value = m[(gate >> 2) + i];
      m[(out >> 2) + i] = f(value * sigmoid(value)) * m[(up >> 2) + i];
    }
  }

  lstm(hidden: number, cell: number, gates: number, n: number): void {
    const m = this.f32;
    const [h, c, g] = [hidden >> 2, cell >> 2, gates >> 2];
    for (let i = 0; i < n; i++) {
      const kept = f(sigmoid(m[g + n + i]) * m[c + i]);
      const state = f(kept + f(sigmoid(m[g + i]) * tanh(m[g + 2 * n + i])));
      m[c + i] = state;
      m[h + i] = sigmoid(m[g + 3 * n + i]) * tanh(state);
    }
  }

  attend(out: number, query: number, keys: number, values: number, scores: number,
    dim: number, nKeys: number, scale: number): void {
    const m = this.f32;
    const [o, q, k, v, s] = [out >> 2, query >> 2, keys >> 2, values >> 2, scores >> 2];
    const end = (nKeys + 3) & ~3;
    let highest = LOWEST;
    for (let key = 0; key < nKeys; key++) {
      m[s + key] = f(this.dot(k + key * dim, q, dim) * f(scale));
      if (m[s + key] > highest) highest = m[s + key];
    }
    m.fill(LOWEST, s + nKeys, s + end);
    const sums = new Float32Array(4);
    for (let key = 0; key < end; key++) {
      m[s + key] = exp(f(m[s + key] - highest));
      sums[key & 3] += m[s + key];
    }
    const share = f(1 / f(f(sums[0] + sums[1]) + f(sums[2] + sums[3])));
    m.fill(0, o, o + dim);
    for (let key = 0; key < nKeys; key++) {
      for (let i = 0; i < dim; i++) m[o + i] += f(m[s + key] * m[v + key * dim + i]);
    }
    for (let i = 0; i < dim; i++) m[o + i] *= share;
  }
}
