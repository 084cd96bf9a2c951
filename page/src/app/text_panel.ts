// The text of the tune: edited, dropped in, and asked what would come next.

import type { Candidate, Facts } from "../worker/messages";
import { byId, make } from "./dom";
import type { Model } from "./model";
import type { SettingsForm } from "./settings_form";

const EDIT_PAUSE_MS = 350; // after the last key, before the score follows

export class TextPanel {
  private readonly area = byId<HTMLTextAreaElement>("text");
  private timer = 0;

  constructor(
    private readonly model: Model, private readonly form: SettingsForm,
    private readonly onEdit: (abc: string) => Promise<void>, private readonly say: (text: string) => void,
  ) {
    this.area.oninput = () => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => void this.edited(), EDIT_PAUSE_MS);
    };
    byId("ask-next").onclick = () => void this.askNext();
    const file = byId<HTMLInputElement>("file");
    byId("open-file").onclick = () => file.click();
    file.onchange = () => void (file.files?.[0] && this.open(file.files[0]));
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
    document.addEventListener("dragover", () => document.body.classList.add("dropping"));
    for (const name of ["dragleave", "drop"]) {
      document.addEventListener(name, () => document.body.classList.remove("dropping"));
    }
    document.addEventListener("drop", ({ dataTransfer }) => {
      const [dropped] = dataTransfer?.files ?? [];
      if (dropped) void this.open(dropped);
      else if (dataTransfer?.getData("text")) void this.open(new Blob([dataTransfer.getData("text")]));
    });
  }

  /** Says which files can be opened. */
  offer({ reads, converts }: Facts): void {
    byId<HTMLInputElement>("file").accept = [...reads, ...converts].join();
    document.body.dataset.drop = converts.length ? "Drop ABC, MIDI or a score here" : "Drop ABC here";
  }

  /** Shows a tune's text, unless it is being edited. */
  show(abc: string): void {
    if (document.activeElement !== this.area || !this.area.value) {
      this.area.value = abc;
      const lastBar = Math.max(0, abc.lastIndexOf("[V:")) + "[V:1]".length; // much is still to choose there
      this.area.setSelectionRange(lastBar, lastBar);
    }
    byId("text-error").textContent = "";
  }

  private async edited(): Promise<void> {
    try {
      await this.onEdit(this.area.value);
      byId("text-error").textContent = "";
    } catch (error) {
      byId("text-error").textContent = (error as Error).message;
    }
  }

  private async open(file: Blob): Promise<void> {
    try {
      const content = new Uint8Array(await file.arrayBuffer());
      const name = file instanceof File ? file.name : "";
      const { abc, title, warnings } = await this.model.ask("open", { name, content });
      this.area.value = abc;
      await this.onEdit(abc);
      const opened = title ? `Opened: ${title}.` : "Opened.";
      this.say(warnings.length ? `${opened} ${warnings.length} warnings; the first: ${warnings[0]}` : opened);
    } catch (error) {
      this.say(`This cannot be read: ${(error as Error).message}`);
    }
  }

  private async askNext(): Promise<void> {
    const { seed, temperature, topP } = this.form.read();
    const text = this.area.value.slice(0, this.area.selectionStart);
    try {
      const { candidates, error } = await this.model.ask("next", { text, sampling: { seed, temperature, topP } });
      const note = error ? `Outside the grammar: ${error}` : "Struck through: what the grammar forbids here.";
      byId("next").replaceChildren(make("p", { className: "hint", textContent: note }), table(candidates));
    } catch (error) {
      byId("next").textContent = (error as Error).message;
    }
  }
}

/** The most probable tokens. */
function table(candidates: Candidate[]): HTMLElement {
  const rows = candidates.map(({ text, probability, isLegal }) => {
    const shown = text === "\n" ? "new line" : text === " " ? "space" : text;
    const meter = make("meter", { min: 0, max: 1, value: probability });
    meter.ariaLabel = `${shown}: ${(100 * probability).toFixed(1)} percent`;
    const name = make(isLegal ? "span" : "s", { textContent: shown });
    return make("tr", {}, make("td", {}, name), make("td", {}, meter),
      make("td", { textContent: `${(100 * probability).toFixed(1)} %` }));
  });
  const caption = make("caption", { className: "sr", textContent: "The most probable tokens" });
  return make("table", {}, caption, ...rows);
}

