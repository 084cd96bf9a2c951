// Drawing tokens: temperature, top-p, and random numbers that depend only on seed and place.

import { exp } from "./exact_math";

export interface Sampling {
  seed: number;
  temperature: number; // 0: the most probable token
  topP: number; // in (0, 1]: the most probable tokens that together reach it
}

/** A number in [0, 1) for the nth token of a tune and an attempt at it. */
export function randomAt(seed: number, place: number, attempt: number): number {
  let hash = mixed(seed ^ 0x9e3779b9);
  hash = mixed(hash ^ place);
  hash = mixed(hash ^ (attempt + 0x51ed270b));
  return hash / 2 ** 32;
}

/** Scrambles 32 bits. Source: the finalizer of MurmurHash3. */
function mixed(bits: number): number {
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** Probabilities (V,) of logits (V,) at a temperature above 0. */
export function probabilities(logits: ArrayLike<number>, temperature: number): Float64Array {
  const found = new Float64Array(logits.length);
  let highest = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i] > highest) highest = logits[i];
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    found[i] = exp((logits[i] - highest) / temperature);
    total += found[i];
  }
  for (let i = 0; i < logits.length; i++) found[i] /= total;
  return found;
}

/**
 * Draws a token.
 *
 * @param logits (V,).
 * @param random In [0, 1).
 * @param allowed The tokens to draw from; all if left out.
 */
export function draw(
  logits: Float32Array, { temperature, topP }: Sampling, random: number, allowed?: number[],
): number {
  const tokens = allowed ?? Array.from(logits, (_, token) => token);
  if (temperature === 0) {
    return tokens.reduce((best, token) => (logits[token] > logits[best] ? token : best));
  }
  const chances = probabilities(tokens.map((token) => logits[token]), temperature);
  const places = topP < 1 ? nucleus(chances, topP) : tokens.map((_, place) => place);
  let left = random * places.reduce((sum, place) => sum + chances[place], 0);
  for (const place of places) {
    left -= chances[place];
    if (left < 0) return tokens[place];
  }
  return tokens[places[places.length - 1]]; // rounding
}

/** Places of the most probable, in order of the vocabulary, that together reach topP. */
function nucleus(chances: Float64Array, topP: number): number[] {
  const order = Array.from(chances, (_, place) => place);
  order.sort((a, b) => chances[b] - chances[a] || a - b);
  let sum = 0;
  const n = order.findIndex((place) => (sum += chances[place]) >= topP);
  return order.slice(0, n < 0 ? order.length : n + 1).sort((a, b) => a - b);
}
