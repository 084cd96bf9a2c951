// The page: what a person asks for, what the model writes, what is shown and heard.

import { Score } from "../score/score";
import { Player } from "../sound/player";
import type { Request, Tune, Written } from "../worker/messages";
import { Alternative, hideAlternatives, showAlternatives, verdictOf } from "./alternatives";
import { byId } from "./dom";
import { saveAs } from "./downloads";
import { showFacts } from "./facts";
import { growing } from "./growing";
import { History } from "./history";
import { Model } from "./model";
import { PlayerBar } from "./player_bar";
import { conditionsOf, fromLink, startSettings, toLink, type Settings } from "./settings";
import { SettingsForm } from "./settings_form";
import { TextPanel } from "./text_panel";
import { showTitle } from "./title";

const FILL_TOKENS = 1000; // that a model may choose for marked bars, or a further voice
const N_VARIATIONS = 3;
const BUSY = ["write", "variations", "compare", "open-file"]; // controls that wait while the model writes

const model = new Model();
const linked = fromLink(location.hash);
const form = new SettingsForm(linked ?? startSettings());
const history = new History();
const score = new Score(byId("score"), true);
const player = new Player();
const bar = new PlayerBar(player, score, say);
const text = new TextPanel(model, form, (abc) => take(abc), say);
let tune: Tune | null = null;
let isWriting = false;

function say(message: string): void {
  byId("status").textContent = message;
}

/** Runs what a control asks for; errors become a line on the page. */
async function attempt(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    say((error as Error).message);
  }
}

/** Shows a tune and keeps it for undo. */
async function take(abc: string): Promise<void> {
  await show(abc);
  history.push(tune!.abc);
  showUndo();
}

async function show(abc: string): Promise<void> {
  byId("tune").hidden = false;
  tune = await model.ask("show", { abc, width: score.width });
  score.draw(tune);
  showTitle(tune, form.read());
  bar.load(tune);
  text.show(tune.abc);
  byId<HTMLButtonElement>("accompany").disabled = !tune.hasEnd;
}

function showUndo(): void {
  byId<HTMLButtonElement>("undo").disabled = !history.canUndo;
  byId<HTMLButtonElement>("redo").disabled = !history.canRedo;
}

async function writing(
  request: Request, { temperature, topP }: Settings, seed: number, onGrow: (abc: string | null) => void,
): Promise<Written> {
  const asked = { request, sampling: { seed, temperature, topP } };
  const written = await model.ask("write", asked, ({ text: abc }) => onGrow(abc));
  onGrow(null);
  return written;
}

/** Locks the controls while the model writes. */
async function busy(work: () => Promise<void>): Promise<void> {
  if (isWriting) return;
  isWriting = true;
  document.body.classList.add("writing");
  byId("stop").hidden = false;
  player.stop();
  for (const id of BUSY) byId<HTMLButtonElement>(id).disabled = true;
  await attempt(work);
  isWriting = false;
  document.body.classList.remove("writing");
  byId("stop").hidden = true;
  for (const id of BUSY) byId<HTMLButtonElement>(id).disabled = false;
}

function summary({ seconds, nTokens }: Written, found: Tune): string {
  const nNotes = found.voices.reduce((sum, voice) => sum + voice.notes.length, 0);
  const rate = seconds > 0 ? `, ${Math.round(nTokens / seconds)} tokens/s` : "";
  return `${verdictOf(found)}. ${nNotes} notes in ${seconds.toFixed(1)} s${rate}.`;
}

function requestOf(settings: Settings): Request {
  const { hasGrammar, mostTokens } = settings;
  return { kind: "write", conditions: conditionsOf(settings), prompt: "", hasGrammar, mostTokens };
}

async function write(): Promise<void> {
  const settings = form.read();
  hideAlternatives();
  showLink(settings);
  await busy(async () => {
    say("Writing …");
    byId("tune").hidden = false;
    const grow = growing(model, score, (grown) => {
      score.draw(grown);
      text.show(grown.abc);
    });
    const written = await writing(requestOf(settings), settings, settings.seed, grow);
    await take(written.abc);
    say(summary(written, tune!));
  });
}

function showLink(settings: Settings): void {
  window.history.replaceState(null, "", `#${toLink(settings)}`);
}

interface Asked {
  caption: string;
  request: Request;
  seed: number;
}

/** Writes several tunes beside each other. */
async function writeAlternatives(asked: Asked[]): Promise<void> {
  const settings = form.read();
  await busy(async () => {
    const shown = asked.map(({ caption }) => new Alternative(caption, keep, (heard, on) => void attempt(() => hear(heard, on))));
    showAlternatives(shown, () => {
      if (tune) bar.load(tune);
      say(tune ? "Here is the tune as it was." : "");
    });
    byId("alternatives").scrollIntoView({ block: "nearest" });
    for (const [place, { caption, request, seed }] of asked.entries()) {
      say(`Writing: ${caption} …`);
      const pane = shown[place];
      const draw = growing(model, pane.score, (grown) => pane.draw(grown));
      const written = await writing(request, settings, seed, draw);
      try {
        const found = await model.ask("show", { abc: written.abc, width: pane.score.width });
        pane.draw(found);
        pane.finish(verdictOf(found), !found.wrong.length && found.hasEnd);
      } catch (error) {
        pane.finish(`No tune: ${(error as Error).message}`, false);
      }
    }
    say("Hear them, and keep the one you like.");
  });
}

function keep(kept: Tune): void {
  hideAlternatives();
  void attempt(() => take(kept.abc));
}

async function hear(heard: Tune, on: Score): Promise<void> {
  player.load(heard);
  await player.play(0);
  const follow = () => {
    on.moveTo(player.isPlaying ? player.seconds : null);
    if (player.isPlaying) requestAnimationFrame(follow);
  };
  follow();
}

function fillRequest(): Request | null {
  const { marked } = score;
  if (!marked || !tune) return null;
  if (!tune.hasEnd) {
    say("Bars can be written anew in a whole tune, one that ends with |].");
    return null;
  }
  return { kind: "fill", tune: tune.abc, first: marked.first, last: marked.last, mostTokens: FILL_TOKENS };
}

/** Writes into the tune: bars anew, or a further voice. */
async function change(request: Request | null, what: string): Promise<void> {
  if (!request) return;
  form.renewSeed();
  const settings = form.read();
  const { marked } = score;
  await busy(async () => {
    say(`${what} …`);
    const written = await writing(request, settings, settings.seed, () => {});
    await take(written.abc);
    if (request.kind === "fill") score.mark(marked);
    say(summary(written, tune!));
  });
}

function connect(): void {
  const on = (id: string, action: () => unknown) => byId(id).addEventListener("click", () => void action());
  byId("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isWriting) form.renewSeed();
    void write();
  });
  on("stop", () => model.ask("stop", {}));
  on("variations", () => {
    form.renewSeed();
    const settings = form.read();
    const seeds = Array.from({ length: N_VARIATIONS }, (_, i) => settings.seed + i);
    return writeAlternatives(seeds.map((seed) => ({ caption: `Seed ${seed}`, request: requestOf(settings), seed })));
  });
  on("compare", () => {
    form.renewSeed();
    const settings = form.read();
    return writeAlternatives([true, false].map((hasGrammar) => ({
      caption: `${hasGrammar ? "With" : "Without"} grammar, seed ${settings.seed}`,
      request: requestOf({ ...settings, hasGrammar }),
      seed: settings.seed,
    })));
  });
  on("fill", () => change(fillRequest(), "Filling in"));
  on("fill-three", () => {
    const request = fillRequest();
    form.renewSeed();
    const { seed } = form.read();
    return request && writeAlternatives(Array.from({ length: N_VARIATIONS }, (_, i) => (
      { caption: `Way ${i + 1}`, request, seed: seed + i })));
  });
  on("unmark", () => score.mark(null));
  on("accompany", () => {
    const instruments = [byId<HTMLSelectElement>("further").value];
    return tune && change({ kind: "accompany", tune: tune.abc, instruments, mostTokens: 4 * FILL_TOKENS }, "Adding a voice");
  });
  on("undo", () => attempt(async () => { await show(history.undo()); showUndo(); }));
  on("redo", () => attempt(async () => { await show(history.redo()); showUndo(); }));
  on("link", () => attempt(async () => {
    if (!navigator.clipboard) throw new Error("Copy the address from the address bar: a browser lets only https pages do it.");
    await navigator.clipboard.writeText(location.href);
    say("The link carries the settings and the seed: it writes the same tune.");
  }));
  byId("downloads").addEventListener("click", ({ target }) => {
    const kind = (target as HTMLElement).dataset.save;
    if (kind && tune) void attempt(() => saveAs(kind, tune!, score, player));
  });
  connectScore();
}

function connectScore(): void {
  score.onMark = (marked) => {
    byId("selection").hidden = !marked;
    if (!marked) return;
    const { first, last } = marked;
    byId("marked").textContent = first === last ? `Bar ${first}` : `Bars ${first} to ${last}`;
  };
  score.onSeek = (number) => void bar.play(tune?.clock[number - 1] ?? 0);
  let width = byId("score").clientWidth;
  new ResizeObserver(() => {
    const now = byId("score").clientWidth;
    if (!tune || isWriting || Math.abs(now - width) < 8) return;
    width = now;
    void attempt(() => show(tune!.abc));
  }).observe(byId("score"));
  document.addEventListener("keydown", (event) => {
    const isTyping = (event.target as HTMLElement).matches("input, textarea, select");
    if (isTyping) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      byId(event.shiftKey ? "redo" : "undo").click();
      event.preventDefault();
    } else if (event.key === "p" && tune) void bar.toggle();
  });
}

async function start(): Promise<void> {
  connect();
  showUndo();
  try {
    const isPlain = new URLSearchParams(location.search).has("plain"); // for tests: no SIMD
    const facts = await model.ask("load", { isPlain }, ({ share, text: what }) => {
      byId<HTMLProgressElement>("load-bar").value = share;
      byId("load-text").textContent = what;
    });
    form.offer(facts);
    showFacts(facts);
    text.offer(facts);
    byId("loading").hidden = true;
    for (const id of BUSY) byId<HTMLButtonElement>(id).disabled = false;
    say("Ready: choose what to write, or just press Write.");
    if (linked) await write();
  } catch (error) {
    byId("loading").hidden = true;
    say(`The page cannot start: ${(error as Error).message}`);
  }
}

void start();
