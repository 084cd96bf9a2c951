// Tunes beside each other, to hear and to choose from: variations, with and without grammar.

import { Score } from "../score/score";
import type { Tune } from "../worker/messages";
import { byId, make } from "./dom";

/** One of several tunes; it is shown as it grows. */
export class Alternative {
  readonly element: HTMLElement;
  private readonly scoreHost = make("div");
  private readonly verdict = make("p", { className: "verdict", textContent: "…" });
  private readonly hear = make("button", { type: "button", textContent: "Hear", disabled: true });
  private readonly keep = make("button", { type: "button", className: "main", textContent: "Keep this", disabled: true });
  readonly score: Score;
  private tune: Tune | null = null;

  constructor(
    caption: string, onKeep: (tune: Tune) => void, private readonly onHear: (tune: Tune, score: Score) => void,
  ) {
    this.score = new Score(this.scoreHost, false, 0.75);
    Object.assign(this.scoreHost, { tabIndex: 0, role: "region", ariaLabel: `Score: ${caption}` }); // it scrolls
    this.hear.onclick = () => this.tune && this.onHear(this.tune, this.score);
    this.keep.onclick = () => this.tune && onKeep(this.tune);
    this.element = make("article", {}, make("header", {}, make("h2", { textContent: caption }), this.hear, this.keep),
      this.verdict, this.scoreHost);
  }

  /** Shows the tune so far. */
  draw(tune: Tune): void {
    this.tune = tune;
    this.score.draw(tune);
  }

  /** Shows what was found in the end. */
  finish(verdict: string, isRight: boolean): void {
    this.verdict.textContent = verdict;
    this.verdict.classList.toggle("wrong", !isRight);
    this.hear.disabled = !this.tune;
    this.keep.disabled = !this.tune?.hasEnd;
  }
}

/** What is to be said of a tune's bars. */
export function verdictOf(tune: Tune): string {
  const nBars = tune.starts.length - 1;
  const wrong = new Set(tune.wrong.map(([bar]) => bar)).size;
  const end = tune.hasEnd ? "" : ", no end";
  if (!wrong) return `${nBars} bars, all right${end}`;
  const [bar, message] = tune.wrong[0];
  return `${wrong} of ${nBars} bars wrong${end}. Bar ${bar}: ${message}`;
}

/** Puts alternatives on the page in place of those before. */
export function showAlternatives(alternatives: Alternative[], onClose: () => void): void {
  const host = byId("alternatives");
  const close = make("button", { type: "button", className: "quiet", textContent: "Close" });
  close.onclick = () => {
    hideAlternatives();
    onClose();
  };
  const panes = make("div", { className: "panes" }, ...alternatives.map((each) => each.element));
  host.replaceChildren(panes, close);
  host.hidden = false;
  document.body.classList.add("choosing");
}

export function hideAlternatives(): void {
  byId("alternatives").hidden = true;
  byId("alternatives").replaceChildren();
  document.body.classList.remove("choosing");
}
