// The form of what to write.

import type { Facts } from "../worker/messages";
import { byId, fillSelect, make } from "./dom";
import { METERS, newSeed, PRESETS, withPreset, type Settings } from "./settings";

const input = (id: string) => byId<HTMLInputElement>(id);
const KEY_LABELS: Record<string, string> = {
  Gb: "E♭m", Db: "B♭m", Ab: "Fm", Eb: "Cm", Bb: "Gm", F: "Dm", C: "Am", G: "Em", D: "Bm", A: "F♯m", E: "C♯m",
  B: "G♯m", "F#": "D♯m",
};

/** Settings as the form shows them. */
export class SettingsForm {
  private instruments: string[] = [];
  private known: string[] = [];
  private preset = "";

  constructor(settings: Settings) {
    const buttons = PRESETS.map(({ name, label }) => {
      const button = make("button", { type: "button", textContent: label, className: "chip" });
      button.dataset.preset = name;
      button.onclick = () => this.show({ ...this.read(), ...withPreset(name) });
      return button;
    });
    byId("presets").replaceChildren(...buttons);
    fillSelect(byId("meter"), [["", "any"], ...METERS.map((meter): [string, string] => [meter, meter])]);
    byId("add-instrument").onclick = () => this.showInstruments([...this.instruments, this.known[0]]);
    for (const id of ["temperature", "top-p"]) input(id).oninput = () => this.showValues();
    for (const id of ["meter", "key", "tempo"]) byId(id).addEventListener("change", () => this.showPreset("free"));
    this.show(settings);
  }

  /** Offers the model's keys and instruments. */
  offer(facts: Facts): void {
    const settings = this.read();
    this.known = [...facts.instruments, "Drums"];
    const keys = facts.keys.map((key): [string, string] => [
      key, `${key.replace("b", "♭").replace("#", "♯")} / ${KEY_LABELS[key]}`,
    ]);
    fillSelect(byId("key"), [["", "any"], ...keys]);
    fillSelect(byId("further"), this.known.map((name) => [name, name]));
    byId<HTMLSelectElement>("further").value = "Acoustic Bass";
    this.show({ ...settings, key: settings.key || this.wantedKey });
  }

  private wantedKey = "";

  show(settings: Settings): void {
    this.wantedKey = settings.key;
    byId<HTMLSelectElement>("meter").value = settings.meter;
    byId<HTMLSelectElement>("key").value = settings.key;
    input("tempo").value = settings.tempo;
    input("temperature").value = String(settings.temperature);
    input("top-p").value = String(settings.topP);
    input("most-tokens").value = String(settings.mostTokens);
    input("grammar").checked = settings.hasGrammar;
    input("seed").value = String(settings.seed);
    this.showInstruments(settings.instruments);
    this.showPreset(settings.preset);
    this.showValues();
  }

  read(): Settings {
    return {
      preset: this.preset,
      meter: byId<HTMLSelectElement>("meter").value,
      key: byId<HTMLSelectElement>("key").value || (this.known.length ? "" : this.wantedKey),
      tempo: input("tempo").value,
      instruments: [...this.instruments],
      temperature: Number(input("temperature").value),
      topP: Number(input("top-p").value),
      mostTokens: Number(input("most-tokens").value) || 1500,
      hasGrammar: input("grammar").checked,
      seed: Number(input("seed").value) || 0,
    };
  }

  /** Draws a new seed, unless it is to stay. */
  renewSeed(): void {
    if (input("new-seed").checked) input("seed").value = String(newSeed());
  }

  private showPreset(name: string): void {
    this.preset = name;
    for (const button of byId("presets").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.preset === name));
    }
  }

  private showValues(): void {
    byId("temperature-value").textContent = input("temperature").value;
    byId("top-p-value").textContent = input("top-p").value;
  }

  private showInstruments(names: string[]): void {
    this.instruments = names;
    const rows = names.map((name, place) => {
      const select = make("select", { ariaLabel: `Instrument of voice ${place + 1}` });
      const known = this.known.length ? this.known : [name];
      fillSelect(select, known.map((each) => [each, each]));
      select.value = name;
      select.onchange = () => this.showInstruments(names.map((old, i) => (i === place ? select.value : old)));
      const remove = make("button", { type: "button", className: "quiet", textContent: "×" });
      remove.ariaLabel = `Remove voice ${place + 1}, ${name}`;
      remove.onclick = () => this.showInstruments(names.filter((_, i) => i !== place));
      return make("li", {}, select, remove);
    });
    byId("instruments").replaceChildren(...rows);
    byId("instruments").classList.toggle("empty", !names.length);
  }
}
