// What the page says of its model.

import type { Facts } from "../worker/messages";
import { byId } from "./dom";

export function showFacts({ name, family, n_parameters, hasCard, canFill, isServed }: Facts): void {
  const size = (n_parameters / 1e6).toFixed(1);
  byId("facts").textContent = `Model: ${name}, ${family}, ${size} million parameters.`;
  byId("card").hidden = !hasCard;
  byId("fill-hint").hidden = canFill;
  if (!isServed) return;
  byId("about").textContent = "It runs on the machine that serves this page.";
  byId("fill-hint").textContent = "This model was not trained to fill in, and will refuse."; // as its pipeline does
}
