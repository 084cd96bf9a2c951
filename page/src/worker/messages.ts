// What the page and its worker say to each other.

import type { Sampling } from "../engine/sampling";

export interface Conditions {
  meter?: string;
  key?: string;
  tempo?: number;
  instruments?: string[];
}

/** A tune to write; see `Page.begin` in page/python/api.py. */
export type Request =
  | { kind: "write"; conditions: Conditions; prompt: string; hasGrammar: boolean; mostTokens: number }
  | { kind: "fill"; tune: string; first: number; last: number; mostTokens: number }
  | { kind: "accompany"; tune: string; instruments: string[]; mostTokens: number };

/** [onset, end, pitches] in ticks of 1/48 quarter. */
export type Chord = [number, number, number[]];

export interface Voice {
  name: string;
  program: number | null; // null: drums
  notes: Chord[];
}

/** A tune as it is drawn and played; see page/python/showing.py. */
export interface Tune {
  abc: string;
  hasEnd: boolean;
  exported: string;
  drawn: string;
  key: string;
  meter: string;
  meters: [bar: number, numerator: number, denominator: number][];
  tempos: [bar: number, quartersPerMinute: number][];
  starts: number[]; // ticks of the bars, and of the end
  clock: number[]; // the same in seconds
  voices: Voice[];
  wrong: [bar: number, message: string][];
}

/** What the model offers. */
export interface Facts {
  keys: string[];
  instruments: string[];
  tokens: string[];
  canFill: boolean;
  name: string;
  family: string;
  n_parameters: number;
  hasCard: boolean;
  isServed: boolean; // by a studio, which computes with the model
  reads: string[]; // suffixes of files that the page opens
  converts: string[]; // of those that a studio reads for it
}

export interface Written {
  abc: string;
  nTokens: number; // that the model read or chose
  nReplaced: number; // draws that the grammar replaced
  seconds: number;
}

export interface Candidate {
  text: string;
  probability: number;
  isLegal: boolean;
}

export interface Opened {
  abc: string;
  title: string;
  warnings: string[];
}

/** Questions by name: [what is asked, what is answered]. */
export interface Questions {
  load: [{ isPlain: boolean }, Facts];
  write: [{ request: Request; sampling: Sampling }, Written];
  show: [{ abc: string; width: number }, Tune];
  next: [{ text: string; sampling: Sampling }, { candidates: Candidate[]; error?: string }];
  open: [{ name: string; content: Uint8Array<ArrayBuffer> }, Opened];
  stop: [Record<string, never>, null];
}

export interface Progress {
  share: number; // of the work, in [0, 1]
  text: string; // what is being done; of a tune, the tune so far
}
