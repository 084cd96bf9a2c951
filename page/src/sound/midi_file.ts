// A tune -> a Standard MIDI File, as data_prep/midi/midi_writer.py writes it: one track per voice.

import type { Tune, Voice } from "../worker/messages";

const TICKS_PER_QUARTER = 192;
const SCALE = TICKS_PER_QUARTER / 48; // of the tune's own ticks
const VELOCITY = 80;
const DRUM_CHANNEL = 9;

interface MidiEvent {
  tick: number;
  order: number; // at one tick
  bytes: number[];
}

/** The channel (0-15) of each voice: its own if there are enough, else one per program. */
export function channelsOf(voices: Voice[]): number[] {
  const free = Array.from({ length: 16 }, (_, channel) => channel).filter((channel) => channel !== DRUM_CHANNEL);
  const melodic = voices.filter((voice) => voice.program !== null);
  const isShared = melodic.length > free.length;
  const given = new Map<number | Voice, number>();
  for (const voice of melodic) {
    const key = isShared ? voice.program! : voice;
    if (!given.has(key)) given.set(key, free[given.size % free.length]);
  }
  return voices.map((voice) =>
    voice.program === null ? DRUM_CHANNEL : given.get(isShared ? voice.program : voice)!);
}

export function midiFile(tune: Tune): Uint8Array<ArrayBuffer> {
  const channels = channelsOf(tune.voices);
  const tracks = [conductor(tune), ...tune.voices.map((voice, i) => voiceEvents(voice, channels[i]))];
  const chunks = tracks.map((events) => trackChunk(events));
  const header = [...text("MThd"), ...fixed(6, 4), ...fixed(1, 2), ...fixed(chunks.length, 2), ...fixed(TICKS_PER_QUARTER, 2)];
  return new Uint8Array([header, ...chunks].flat());
}

function conductor(tune: Tune): MidiEvent[] {
  const tempos = tune.tempos.map(([bar, perMinute]) => ({
    tick: tune.starts[bar] * SCALE,
    order: 0,
    bytes: [0xff, 0x51, 3, ...fixed(Math.round(60_000_000 / perMinute), 3)],
  }));
  const meters = tune.meters.map(([bar, numerator, denominator]) => ({
    tick: tune.starts[bar] * SCALE,
    order: 1,
    bytes: [0xff, 0x58, 4, Math.min(numerator, 255), Math.round(Math.log2(denominator)), 24, 8],
  }));
  const end = { tick: tune.starts[tune.starts.length - 1] * SCALE, order: 9, bytes: [0xff, 0x2f, 0] };
  return [...tempos, ...meters, end];
}

function voiceEvents(voice: Voice, channel: number): MidiEvent[] {
  const events: MidiEvent[] = [{ tick: 0, order: 0, bytes: [0xc0 | channel, voice.program ?? 0] }];
  let last = 0;
  for (const [onset, end, pitches] of voice.notes) {
    last = end * SCALE;
    for (const pitch of pitches) {
      events.push({ tick: onset * SCALE, order: 2, bytes: [0x90 | channel, pitch, VELOCITY] });
      events.push({ tick: last, order: 1, bytes: [0x80 | channel, pitch, 0] });
    }
  }
  return [...events, { tick: last, order: 9, bytes: [0xff, 0x2f, 0] }];
}

function trackChunk(events: MidiEvent[]): number[] {
  let tick = 0;
  const body = events
    .sort((a, b) => a.tick - b.tick || a.order - b.order)
    .flatMap((event) => {
      const delta = event.tick - tick;
      tick = event.tick;
      return [...variable(delta), ...event.bytes];
    });
  return [...text("MTrk"), ...fixed(body.length, 4), ...body];
}

const text = (letters: string) => Array.from(letters, (letter) => letter.charCodeAt(0));

function fixed(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => (value >>> (8 * (bytes - 1 - i))) & 0xff);
}

function variable(value: number): number[] {
  const found = [value & 0x7f];
  for (let rest = value >>> 7; rest; rest >>>= 7) found.unshift((rest & 0x7f) | 0x80);
  return found;
}
