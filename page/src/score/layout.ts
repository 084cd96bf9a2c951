// Where the drawn bars and notes are: abcjs' elements -> bars, moments in them, and places.

import type { TuneObject } from "abcjs";

/** A place in a bar's width. */
interface Moment {
  time: number; // in whole notes from the start of the bar
  x: number;
}

export interface DrawnNote {
  bar: number; // from 0
  start: number; // in whole notes from the start of the bar
  end: number;
  elements: Element[];
}

export interface DrawnBar {
  line: number;
  left: number; // in the drawing's units, as the rest
  right: number;
  moments: Moment[];
}

export interface Layout {
  bars: DrawnBar[];
  notes: DrawnNote[];
}

/** What this file reads of an element that abcjs has drawn. */
interface Drawn {
  el_type: string;
  duration?: number;
  rest?: { type: string };
  startTriplet?: number;
  tripletMultiplier?: number;
  endTriplet?: boolean;
  abselem?: { x: number; w: number; elemset?: Element[] };
}

/** Reads what abcjs has drawn, line by line and voice by voice. */
export function layoutOf(tune: TuneObject): Layout {
  const bars: DrawnBar[] = [];
  const notes: DrawnNote[] = [];
  let firstBar = 0;
  tune.lines.forEach((line, number) => {
    if (!line.staff) return;
    let nBars = 0;
    for (const staff of line.staff) {
      for (const voice of staff.voices ?? []) {
        nBars = Math.max(nBars, readVoice(voice as unknown as Drawn[], number, firstBar, bars, notes));
      }
    }
    firstBar += nBars;
  });
  for (const bar of bars) bar.moments.sort((a, b) => a.time - b.time || a.x - b.x);
  return { bars, notes };
}

/** Reads a voice of one line; returns the number of its bars. */
function readVoice(
  elements: Drawn[], line: number, firstBar: number, bars: DrawnBar[], notes: DrawnNote[],
): number {
  let [bar, time, scale, left] = [firstBar, 0, 1, -1];
  for (const { el_type: type, abselem, ...element } of elements) {
    if (!abselem) continue;
    if (type === "bar") {
      bars[bar] ??= { line, left: Math.max(left, 0), right: abselem.x, moments: [] };
      bars[bar].right = Math.max(bars[bar].right, abselem.x + abselem.w);
      [bar, time, left] = [bar + 1, 0, abselem.x + abselem.w];
    } else if (type === "note") {
      if (left < 0) left = abselem.x - 12;
      bars[bar] ??= { line, left, right: abselem.x, moments: [] };
      if (element.startTriplet) scale = element.tripletMultiplier ?? 2 / 3;
      const length = (element.duration ?? 0) * scale;
      bars[bar].moments.push({ time, x: abselem.x + abselem.w / 2 });
      if (!element.rest) {
        notes.push({ bar, start: time, end: time + length, elements: abselem.elemset ?? [] });
      }
      time += length;
      if (element.endTriplet) scale = 1;
    }
  }
  return bar - firstBar;
}

/** The x of a moment in a bar, between those of the notes around it. */
export function placeOf(bar: DrawnBar, time: number, length: number): number {
  const { moments } = bar;
  const next = moments.findIndex((moment) => moment.time > time + 1e-9);
  const before = moments[(next < 0 ? moments.length : next) - 1] ?? { time: 0, x: bar.left };
  const after = next < 0 ? { time: length, x: bar.right } : moments[next];
  const span = after.time - before.time;
  return before.x + (span > 0 ? (after.x - before.x) * Math.min(1, (time - before.time) / span) : 0);
}
