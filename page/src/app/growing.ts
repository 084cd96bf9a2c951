// A tune that grows on a score while the model writes it.

import type { Score } from "../score/score";
import type { Tune } from "../worker/messages";
import type { Model } from "./model";

const DRAW_PAUSE_MS = 250; // between drawings: reading the tune takes the model's time

/**
 * Returns a function that draws the text so far: the latest, whenever the last drawing is done.
 * With null it draws no more.
 */
export function growing(
  model: Model, on: Score, draw: (tune: Tune) => void,
): (abc: string | null) => Promise<void> {
  let [latest, isBusy, isOver] = ["", false, false];
  return async (abc) => {
    latest = abc ?? "";
    isOver ||= abc === null;
    if (isBusy || isOver) return;
    isBusy = true;
    try {
      while (latest) {
        const asked = latest;
        latest = "";
        const tune = await model.ask("show", { abc: asked, width: on.width });
        if (isOver) break;
        draw(tune);
        await new Promise((resolve) => setTimeout(resolve, DRAW_PAUSE_MS));
      }
    } catch {
      // a header alone is no tune yet; what remains unreadable is said at the end
    } finally {
      isBusy = false;
    }
  };
}
