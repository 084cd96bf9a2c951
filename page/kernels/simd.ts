// The arithmetic of a decoding step in WebAssembly with SIMD; AssemblyScript, four lanes of f32.
//
// `src/engine/plain_kernels.ts` does the same in plain JavaScript, bit for bit: there, too, a sum
// has four partial sums, of every fourth element, which are added as (0 + 1) + (2 + 3). Change both.
//
// All pointers are byte offsets; all lengths are multiples of 4 unless said otherwise.

// @ts-ignore: decorator
@inline
function splat(value: f32): v128 {
  return f32x4.splat(value);
}

// @ts-ignore: decorator
@inline
function horner(p: v128, x: v128, next: f32): v128 {
  return f32x4.add(f32x4.mul(p, x), splat(next));
}

/** e^x within 2 units in the last place, x clamped to [-87, 88]. Source: Cephes, expf. */
// @ts-ignore: decorator
@inline
function exp4(given: v128): v128 {
  const x = f32x4.min(f32x4.max(given, splat(-87)), splat(88));
  const n = f32x4.floor(horner(x, splat(1.44269504088896341), 0.5));
  let r = f32x4.sub(x, f32x4.mul(n, splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, splat(-2.12194440e-4)));
  let p = splat(1.9875691500e-4);
  p = horner(p, r, 1.3981999507e-3);
  p = horner(p, r, 8.3334519073e-3);
  p = horner(p, r, 4.1665795894e-2);
  p = horner(p, r, 1.6666665459e-1);
  p = horner(p, r, 5.0000001201e-1);
  p = f32x4.add(f32x4.add(f32x4.mul(f32x4.mul(p, r), r), r), splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return f32x4.mul(p, power);
}

// @ts-ignore: decorator
@inline
function sigmoid4(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp4(f32x4.neg(x))));
}

// @ts-ignore: decorator
@inline
function tanh4(x: v128): v128 {
  return f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(exp4(f32x4.add(x, x)), splat(1))));
}

/** Error function within 2e-7. Source: Abramowitz and Stegun, 7.1.26. */
// @ts-ignore: decorator
@inline
function erf4(x: v128): v128 {
  const size = f32x4.abs(x);
  const t = f32x4.div(splat(1), horner(size, splat(0.3275911), 1));
  let p = splat(1.061405429);
  p = horner(p, t, -1.453152027);
  p = horner(p, t, 1.421413741);
  p = horner(p, t, -0.284496736);
  p = horner(p, t, 0.254829592);
  const tail = f32x4.mul(f32x4.mul(p, t), exp4(f32x4.neg(f32x4.mul(x, x))));
  const found = f32x4.sub(splat(1), tail);
  return v128.bitselect(found, x, i32x4.splat(0x7fffffff)); // with the sign of x
}

// @ts-ignore: decorator
@inline
function sum4(lanes: v128): f32 {
  const low = f32x4.extract_lane(lanes, 0) + f32x4.extract_lane(lanes, 1);
  return low + (f32x4.extract_lane(lanes, 2) + f32x4.extract_lane(lanes, 3));
}

/** `sum4` of four sums at once. */
// @ts-ignore: decorator
@inline
function sums4(s0: v128, s1: v128, s2: v128, s3: v128): v128 {
  const a = f32x4.add(
    v128.shuffle<f32>(s0, s1, 0, 4, 2, 6), v128.shuffle<f32>(s0, s1, 1, 5, 3, 7));
  const b = f32x4.add(
    v128.shuffle<f32>(s2, s3, 0, 4, 2, 6), v128.shuffle<f32>(s2, s3, 1, 5, 3, 7));
  return f32x4.add(v128.shuffle<f32>(a, b, 0, 1, 4, 5), v128.shuffle<f32>(a, b, 2, 3, 6, 7));
}

/** out (rows, nOut) = x (rows, nIn) times the transpose of weights (nOut, nIn). */
export function matmul(out: usize, x: usize, weights: usize, rows: i32, nIn: i32, nOut: i32): void {
  for (let o: i32 = 0; o < nOut; o += 4) {
    columns4(out + (<usize>o << 2), x, weights + ((<usize>o * nIn) << 2), rows, nIn, nOut);
  }
}

/** Four columns of `matmul`. */
function columns4(out: usize, x: usize, w0: usize, rows: i32, nIn: i32, nOut: i32): void {
  const width = <usize>nIn << 2;
  const w1 = w0 + width;
  const w2 = w1 + width;
  const w3 = w2 + width;
  for (let row: i32 = 0; row < rows; row++) {
    const from = x + <usize>row * width;
    let s0 = splat(0), s1 = splat(0), s2 = splat(0), s3 = splat(0);
    for (let at: usize = 0; at < width; at += 16) {
      const lanes = v128.load(from + at);
      s0 = f32x4.add(s0, f32x4.mul(v128.load(w0 + at), lanes));
      s1 = f32x4.add(s1, f32x4.mul(v128.load(w1 + at), lanes));
      s2 = f32x4.add(s2, f32x4.mul(v128.load(w2 + at), lanes));
      s3 = f32x4.add(s3, f32x4.mul(v128.load(w3 + at), lanes));
    }
    v128.store(out + ((<usize>row * nOut) << 2), sums4(s0, s1, s2, s3));
  }
}

/** Four numbers of half precision, widened. Their bits are shifted to the places of a single's; 2^112 makes up
 * for the other bias of the exponent, exactly, with subnormal numbers too. There are no infinite ones. */
// @ts-ignore: decorator
@inline
function wide4(from: usize): v128 {
  const bits = i32x4.shl(v128.load_ext<i16>(from), 13);
  return f32x4.mul(v128.and(bits, i32x4.splat(0x8fffe000)), splat(5.1922968585348276e33));
}

/**
 * `matmul` with weights in half precision: a step is as fast as its weights come from memory.
 *
 * scratch: room for 4 nIn numbers. For several rows the weights are widened once, not for each.
 */
export function matmulHalf(
  out: usize, x: usize, weights: usize, rows: i32, nIn: i32, nOut: i32, scratch: usize,
): void {
  const width = <usize>nIn << 1;
  for (let o: i32 = 0; o < nOut; o += 4) {
    const w0 = weights + <usize>o * width;
    const to = out + (<usize>o << 2);
    if (rows > 1) {
      for (let at: usize = 0; at < 4 * width; at += 8) v128.store(scratch + 2 * at, wide4(w0 + at));
      columns4(to, x, scratch, rows, nIn, nOut);
      continue;
    }
    const w1 = w0 + width;
    const w2 = w1 + width;
    const w3 = w2 + width;
    let s0 = splat(0), s1 = splat(0), s2 = splat(0), s3 = splat(0);
    for (let at: usize = 0; at < width; at += 8) {
      const lanes = v128.load(x + 2 * at);
      s0 = f32x4.add(s0, f32x4.mul(wide4(w0 + at), lanes));
      s1 = f32x4.add(s1, f32x4.mul(wide4(w1 + at), lanes));
      s2 = f32x4.add(s2, f32x4.mul(wide4(w2 + at), lanes));
      s3 = f32x4.add(s3, f32x4.mul(wide4(w3 + at), lanes));
    }
    v128.store(to, sums4(s0, s1, s2, s3));
  }
}

/** x (n,) += y (n,). */
export function add(x: usize, y: usize, n: i32): void {
  for (let at: usize = 0; at < <usize>n << 2; at += 16) {
    v128.store(x + at, f32x4.add(v128.load(x + at), v128.load(y + at)));
  }
}

/** x (n,) = x times the normal distribution function of x. */
export function gelu(x: usize, n: i32): void {
  for (let at: usize = 0; at < <usize>n << 2; at += 16) {
    const value = v128.load(x + at);
    const erf = erf4(f32x4.mul(value, splat(0.70710678118654752)));
    const half = f32x4.mul(value, splat(0.5));
    v128.store(x + at, f32x4.mul(half, f32x4.add(splat(1), erf)));
  }
}

/** out (n,) = gate times sigmoid(gate) times up. */
export function silu(out: usize, gate: usize, up: usize, n: i32): void {
  for (let at: usize = 0; at < <usize>n << 2; at += 16) {
    const value = v128.load(gate + at);
    const opened = f32x4.mul(value, sigmoid4(value));
    v128.store(out + at, f32x4.mul(opened, v128.load(up + at)));
  }
}

/** One LSTM cell: gates (4, n) in the order i, f, g, o change cell (n,) and hidden (n,). */
export function lstm(hidden: usize, cell: usize, gates: usize, n: i32): void {
  const width = <usize>n << 2;
  for (let at: usize = 0; at < width; at += 16) {
    const take = sigmoid4(v128.load(gates + at));
    const keep = sigmoid4(v128.load(gates + width + at));
    const fresh = tanh4(v128.load(gates + 2 * width + at));
    const show = sigmoid4(v128.load(gates + 3 * width + at));
    const kept = f32x4.mul(keep, v128.load(cell + at));
    const state = f32x4.add(kept, f32x4.mul(take, fresh));
    v128.store(cell + at, state);
    v128.store(hidden + at, f32x4.mul(show, tanh4(state)));
  }
}

/**
 * Attention of one head: out (dim,) = softmax(query . keys * scale) values.
 *
 * keys, values: (nKeys, dim); scores: room for nKeys, rounded up to 4. nKeys is any number.
 */
export function attend(
  out: usize, query: usize, keys: usize, values: usize, scores: usize,
  dim: i32, nKeys: i32, scale: f32,
): void {
  const width = <usize>dim << 2;
  let highest: f32 = -3.4e38;
  for (let key: i32 = 0; key < nKeys; key++) {
    let sum = splat(0);
    for (let at: usize = 0; at < width; at += 16) {
      const pair = f32x4.mul(v128.load(query + at), v128.load(keys + <usize>key * width + at));
      sum = f32x4.add(sum, pair);
    }
    const score: f32 = sum4(sum) * scale;
    store<f32>(scores + (<usize>key << 2), score);
    if (score > highest) highest = score;
  }
  const end = (<usize>nKeys + 3) & ~3;
  for (let key: usize = nKeys; key < end; key++) store<f32>(scores + (key << 2), -3.4e38);
  let total = splat(0);
  for (let at: usize = 0; at < end << 2; at += 16) {
    const weight = exp4(f32x4.sub(v128.load(scores + at), splat(highest)));
    v128.store(scores + at, weight);
    total = f32x4.add(total, weight);
  }
  const share = splat(<f32>1 / sum4(total));
  for (let at: usize = 0; at < width; at += 16) v128.store(out + at, splat(0));
  for (let key: i32 = 0; key < nKeys; key++) {
    const weight = v128.load32_splat(scores + (<usize>key << 2));
    for (let at: usize = 0; at < width; at += 16) {
      const part = f32x4.mul(weight, v128.load(values + <usize>key * width + at));
      v128.store(out + at, f32x4.add(v128.load(out + at), part));
    }
  }
  for (let at: usize = 0; at < width; at += 16) {
    v128.store(out + at, f32x4.mul(v128.load(out + at), share));
  }
}
