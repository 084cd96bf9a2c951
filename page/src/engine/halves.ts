// Numbers of IEEE half precision, as their bits.

const WIDE = Float32Array.from({ length: 65_536 }, (_, half) => {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return half & 0x8000 ? -size : size;
});

/** Widens (n,) bit patterns to (n,) float32. */
export function widened(halves: Uint16Array): Float32Array {
  return Float32Array.from(halves, (half) => WIDE[half]);
}
