// The heading of the tune.

import type { Tune } from "../worker/messages";
import { byId, make } from "./dom";
import { PRESETS, type Settings } from "./settings";

/** Shows a heading such as "Jig in G, 6/8"; the name is the preset's, as long as it fits. */
export function showTitle({ key, meter }: Tune, asked: Settings): void {
  const fits = asked.preset !== "free" && asked.key === key && asked.meter === meter;
  const name = fits ? PRESETS.find(({ name: each }) => each === asked.preset)!.label : "Tune";
  const tonic = key.replace("b", "♭").replace("#", "♯");
  byId("title").replaceChildren(`${name} in ${tonic} `, make("small", { textContent: meter }));
}
