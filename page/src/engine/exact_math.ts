// Functions that engines compute differently, from operations that they all round alike.

const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;

/** e^x within some units in the last place; 0 below -700. */
export function exp(x: number): number {
  if (x < -700) return 0;
  const n = Math.floor(x / 0.6931471805599453 + 0.5);
  const r = x - n * LN2_HIGH - n * LN2_LOW;
  let sum = 1;
  for (let i = 14; i > 0; i--) sum = 1 + (sum * r) / i;
  return sum * 2 ** n;
}

/** The natural logarithm of a number above 0. */
export function ln(x: number): number {
  let [m, n] = [x, 0];
  for (; m > 1.5; n++) m /= 2;
  for (; m < 0.75; n--) m *= 2;
  const z = (m - 1) / (m + 1); // ln m = 2 (z + z^3 / 3 + ...)
  let sum = 0;
  for (let i = 25; i > 0; i -= 2) sum = sum * z * z + 1 / i;
  return 2 * z * sum + n * LN2_LOW + n * LN2_HIGH;
}

/** [cos x, sin x] for 0 <= x < 100,000. */
export function rotation(x: number): [number, number] {
  const r = x - Math.floor(x / (2 * Math.PI) + 0.5) * 2 * Math.PI;
  let [cos, sin] = [1, 1];
  for (let i = 26; i > 0; i -= 2) {
    cos = 1 - (cos * r * r) / (i * (i - 1));
    sin = 1 - (sin * r * r) / (i * (i + 1));
  }
  return [cos, sin * r];
}
