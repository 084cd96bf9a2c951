// What to write: presets, the form's fields, and the link that carries them.

import type { Conditions } from "../worker/messages";

export interface Settings {
  preset: string;
  meter: string; // "": the model chooses, as for the others
  key: string;
  tempo: string;
  instruments: string[];
  temperature: number;
  topP: number;
  mostTokens: number;
  hasGrammar: boolean;
  seed: number;
}

interface Preset {
  name: string;
  label: string;
  meter: string;
  key: string;
  tempo: string;
  instruments: string[];
}

export const METERS = ["2/4", "3/4", "4/4", "2/2", "3/8", "6/8", "9/8", "12/8", "5/4"];

const PIANO = "Acoustic Grand Piano";

// In the form in which the music of `pretrained/` has such pieces, see evaluation/play/pieces.py.
export const PRESETS: Preset[] = [
  { name: "free", label: "Anything", meter: "", key: "", tempo: "", instruments: [] },
  { name: "jig", label: "Jig", meter: "6/8", key: "G", tempo: "120", instruments: [PIANO] },
  { name: "chorale", label: "Chorale", meter: "4/4", key: "G", tempo: "120", instruments: [PIANO, PIANO, PIANO, PIANO] },
  { name: "song", label: "Song", meter: "3/4", key: "F", tempo: "92", instruments: [PIANO, PIANO, PIANO, "Oboe"] },
  { name: "quartet", label: "Quartet", meter: "2/4", key: "C", tempo: "100",
    instruments: ["Violin", "Violin", "Viola", "Cello"] },
];

export function startSettings(): Settings {
  return {
    ...withPreset("jig"), temperature: 0.8, topP: 1, mostTokens: 1500, hasGrammar: true,
    seed: newSeed(),
  };
}

export function withPreset(name: string): Pick<Settings, "preset" | "meter" | "key" | "tempo" | "instruments"> {
  const { meter, key, tempo, instruments } = PRESETS.find((preset) => preset.name === name) ?? PRESETS[0];
  return { preset: name, meter, key, tempo, instruments: [...instruments] };
}

export function newSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 100_000;
}

export function conditionsOf({ meter, key, tempo, instruments }: Settings): Conditions {
  return {
    ...(meter && { meter }),
    ...(key && { key }),
    ...(tempo && { tempo: Number(tempo) }),
    ...(instruments.length && { instruments }),
  };
}

/** The part of a link behind `#`. */
export function toLink(settings: Settings): string {
  const { instruments, hasGrammar, ...plain } = settings;
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(plain)) parts.set(name, String(value));
  parts.set("instruments", instruments.join("|"));
  parts.set("hasGrammar", hasGrammar ? "1" : "0");
  return parts.toString();
}

/** The settings of a link; null if it carries none. Values out of range are replaced by usual ones. */
export function fromLink(hash: string): Settings | null {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  if (!parts.has("seed")) return null;
  const usual = startSettings();
  const number = (name: "temperature" | "topP" | "mostTokens" | "seed", low: number, high: number) => {
    const value = Number(parts.get(name) ?? NaN);
    return value >= low && value <= high ? value : usual[name];
  };
  return {
    preset: parts.get("preset") ?? "free",
    meter: parts.get("meter") ?? "",
    key: parts.get("key") ?? "",
    tempo: parts.get("tempo") ?? "",
    instruments: (parts.get("instruments") ?? "").split("|").filter(Boolean),
    hasGrammar: parts.get("hasGrammar") !== "0",
    temperature: number("temperature", 0, 1.5),
    topP: number("topP", 0.5, 1),
    mostTokens: Math.round(number("mostTokens", 100, 6000)),
    seed: Math.round(number("seed", 0, 2 ** 32 - 1)),
  };
}
