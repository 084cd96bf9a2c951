// The tune as files.

import type { Score } from "../score/score";
import { midiFile } from "../sound/midi_file";
import type { Player } from "../sound/player";
import type { Tune } from "../worker/messages";
import { save } from "./dom";

/** Saves a tune as a kind of file: abc, mid, wav or svg. */
export async function saveAs(kind: string, tune: Tune, score: Score, player: Player): Promise<void> {
  switch (kind) {
    case "abc":
      return save("tune.abc", tune.exported, "text/plain");
    case "mid":
      return save("tune.mid", midiFile(tune), "audio/midi");
    case "wav":
      return save("tune.wav", await player.wav(tune), "audio/wav");
    case "svg":
      return save("tune.svg", new XMLSerializer().serializeToString(score.svg!), "image/svg+xml");
  }
}
