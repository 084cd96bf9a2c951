// A tune as sheet music: drawn by abcjs, with bars to mark and a cursor that moves.

import abcjs from "abcjs";
import { make } from "../app/dom";
import type { Tune } from "../worker/messages";
import { layoutOf, placeOf, type DrawnBar, type DrawnNote, type Layout } from "./layout";

const TICKS_PER_WHOLE = 192;
const FONT = "Georgia, serif";

export interface Marked {
  first: number; // bars from 1
  last: number;
}

export class Score {
  private readonly drawing = make("div", { className: "drawing" });
  private readonly overlay = make("div", { className: "bars" });
  private readonly cursor = make("div", { className: "cursor", hidden: true });
  private layout: Layout = { bars: [], notes: [] };
  private tune: Tune | null = null;
  private sounding: DrawnNote[] = [];
  private anchor = 0;
  private zoom = 1; // pixels per unit of the drawing
  marked: Marked | null = null;
  onMark: (marked: Marked | null) => void = () => {};
  onSeek: (bar: number) => void = () => {};

  /**
   * @param canMark Whether bars can be marked.
   * @param scale Of the notes.
   */
  constructor(
    private readonly host: HTMLElement, private readonly canMark: boolean, private readonly scale = 1,
  ) {
    host.classList.add("score");
    this.overlay.role = "group";
    this.overlay.ariaLabel = canMark ? "Bars: mark some to have them written anew" : "Bars";
    host.append(this.drawing, this.overlay, this.cursor);
  }

  get svg(): SVGSVGElement | null {
    return this.drawing.querySelector("svg");
  }

  /** The width for lines, in the drawing's units. */
  get width(): number {
    return this.host.clientWidth / this.scaleIn(this.host.clientWidth);
  }

  // abcjs scales the whole drawing by a transform
  private scaleIn(width: number): number {
    return this.scale * (width < 500 ? 0.8 : 1);
  }

  draw(tune: Tune): void {
    this.tune = tune;
    const width = this.host.clientWidth;
    this.zoom = this.scaleIn(width);
    this.render(tune, width);
    const right = this.zoom * Math.max(...this.layout.bars.map((bar) => bar.right));
    if (right > width) { // a bar that does not fit by itself
      this.zoom *= (width - 8) / right;
      this.render(tune, width);
    }
    this.svg?.setAttribute("role", "img");
    this.svg?.setAttribute("aria-label", describe(tune));
    this.sounding = [];
    this.showBars();
    this.mark(null);
  }

  private render(tune: Tune, width: number): void {
    const [drawn] = abcjs.renderAbc(this.drawing, tune.drawn, {
      add_classes: true,
      staffwidth: Math.max(180, width - 24),
      paddingleft: 12,
      paddingright: 12,
      paddingtop: 4,
      paddingbottom: 8,
      scale: this.zoom,
      format: {
        voicefont: `${FONT} 12 italic`, tempofont: `${FONT} 13`, measurefont: `${FONT} 11 italic`,
        gchordfont: `${FONT} 12`, infofont: `${FONT} 12`,
      },
    } as object);
    this.layout = layoutOf(drawn);
  }

  /** Marks bars; null marks none. */
  mark(marked: Marked | null): void {
    this.marked = marked;
    [...this.overlay.children].forEach((button, place) => {
      const isMarked = marked !== null && place + 1 >= marked.first && place + 1 <= marked.last;
      button.setAttribute("aria-pressed", String(isMarked));
    });
    this.onMark(marked);
  }

  /** Moves the cursor to a time in seconds; null hides it. */
  moveTo(seconds: number | null): void {
    for (const note of this.sounding) this.color(note, false);
    this.sounding = [];
    this.cursor.hidden = seconds === null || !this.tune;
    if (seconds === null || !this.tune) return;
    const { clock, starts } = this.tune;
    let bar = clock.findIndex((start, place) => place > 0 && start > seconds) - 1;
    if (bar < 0) bar = clock.length - 2;
    const ticks = starts[bar + 1] - starts[bar];
    const share = Math.min(1, (seconds - clock[bar]) / (clock[bar + 1] - clock[bar]));
    const time = (share * ticks) / TICKS_PER_WHOLE;
    const place = this.layout.bars[bar];
    if (!place) return;
    this.sounding = this.layout.notes.filter(
      (note) => note.bar === bar && note.start <= time + 1e-6 && time < note.end,
    );
    for (const note of this.sounding) this.color(note, true);
    const { top, height } = this.lineBox(place.line);
    const x = placeOf(place, time, ticks / TICKS_PER_WHOLE) * this.zoom;
    this.cursor.style.transform = `translate(${x}px, ${top}px)`;
    this.cursor.style.height = `${height}px`;
    this.follow(top, height);
  }

  private color(note: DrawnNote, isOn: boolean): void {
    for (const element of note.elements) element.classList.toggle("sounding", isOn);
  }

  /** Scrolls only where the line would be out of sight. */
  private follow(top: number, height: number): void {
    const from = this.host.getBoundingClientRect().top + top;
    if (from < 0 || from + height > innerHeight - 60) {
      const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
      scrollBy({ top: from - 90, behavior });
    }
  }

  private readonly boxes = new Map<number, { top: number; height: number }>();

  private lineBox(line: number): { top: number; height: number } {
    const known = this.boxes.get(line);
    if (known) return known;
    const origin = this.host.getBoundingClientRect().top;
    const staffs = [...this.drawing.querySelectorAll(`.abcjs-staff.abcjs-l${line}, .abcjs-l${line} .abcjs-staff`)];
    const boxes = staffs.map((staff) => staff.getBoundingClientRect());
    const top = Math.min(...boxes.map((box) => box.top)) - origin - 10;
    const bottom = Math.max(...boxes.map((box) => box.bottom)) - origin + 10;
    const found = { top, height: bottom - top };
    this.boxes.set(line, found);
    return found;
  }

  private showBars(): void {
    this.boxes.clear();
    const wrong = new Map(this.tune!.wrong);
    const { zoom } = this;
    const lines = [...new Set(this.layout.bars.map((bar) => bar.line))];
    this.overlay.replaceChildren(
      ...this.layout.bars.map((bar, place) => this.barButton(bar, lines.indexOf(bar.line), place + 1, zoom, wrong.get(place + 1))),
    );
  }

  private barButton(
    bar: DrawnBar, line: number, number: number, zoom: number, wrong: string | undefined,
  ): HTMLButtonElement {
    const button = make("button", { type: "button", disabled: !this.canMark });
    button.ariaLabel = `Bar ${number}${wrong ? `, wrong: ${wrong}` : ""}`;
    button.title = wrong ?? "";
    button.setAttribute("aria-pressed", "false");
    button.classList.toggle("wrong", wrong !== undefined);
    button.dataset.number = String(number);
    button.classList.toggle("first", number > 1 && this.layout.bars[number - 2]?.line !== bar.line);
    button.tabIndex = number === 1 ? 0 : -1;
    const { top, height } = this.lineBox(line);
    const left = bar.left * zoom;
    Object.assign(button.style, {
      left: `${left}px`, width: `${bar.right * zoom - left}px`, top: `${top}px`, height: `${height}px`,
    });
    button.onpointerdown = (event) => {
      if (event.pointerType !== "touch") this.pressed(number, event.shiftKey); // which may scroll
    };
    button.onclick = (event) => {
      if (!["mouse", "pen"].includes((event as PointerEvent).pointerType)) this.tapped(number);
    };
    button.onpointerenter = (event) => {
      if (event.buttons === 1 && this.anchor) this.markTo(number);
    };
    button.ondblclick = () => this.onSeek(number);
    button.onkeydown = (event) => this.keyPressed(event, number);
    return button;
  }

  private pressed(number: number, extends_: boolean): void {
    const { marked } = this;
    if (extends_ && marked) return this.markTo(number);
    const isOnly = marked && marked.first === number && marked.last === number;
    this.anchor = number;
    this.mark(isOnly ? null : { first: number, last: number });
  }

  /** A second tap marks all bars up to it: there is no Shift. */
  private tapped(number: number): void {
    const { marked } = this;
    this.pressed(number, marked !== null && (number < marked.first || number > marked.last));
  }

  private markTo(number: number): void {
    this.anchor ||= number;
    this.mark({ first: Math.min(this.anchor, number), last: Math.max(this.anchor, number) });
  }

  private keyPressed(event: KeyboardEvent, number: number): void {
    const { line } = this.layout.bars[number - 1];
    const inLine = this.layout.bars.filter((bar) => bar.line === line).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: inLine, ArrowUp: -inLine }[event.key];
    if (event.key === " " || event.key === "Enter") this.pressed(number, event.shiftKey);
    else if (event.key === "Escape") this.mark(null);
    else if (step === undefined) return;
    else {
      const next = this.overlay.children[number - 1 + step] as HTMLElement | undefined;
      if (event.shiftKey && next) {
        this.anchor ||= number;
        this.markTo(number + step);
      }
      next?.focus();
    }
    event.preventDefault();
  }
}

function describe(tune: Tune): string {
  const voices = tune.voices.map((voice) => voice.name).join(", ");
  return `Sheet music: ${tune.starts.length - 1} bars, key of ${tune.key}, ${tune.meter}, for ${voices}`;
}
