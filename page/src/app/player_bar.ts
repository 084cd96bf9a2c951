// The playback controls: play, position, speed, voices.

import type { Player } from "../sound/player";
import type { Score } from "../score/score";
import type { Tune } from "../worker/messages";
import { byId, make } from "./dom";

const PLAY = "M7 4.500v15l13-7.500z";
const PAUSE = "M6 4.500h4.200v15H6zM13.800 4.500H18v15h-4.200z";

export class PlayerBar {
  private tune: Tune | null = null;
  private muted = new Set<number>();
  private solo: number | null = null;
  private readonly position = byId<HTMLInputElement>("position");
  private readonly button = byId<HTMLButtonElement>("play");

  constructor(
    private readonly player: Player, private readonly score: Score,
    private readonly say: (text: string) => void,
  ) {
    this.button.onclick = () => void this.toggle();
    this.position.oninput = () => void this.seek(Number(this.position.value));
    const speed = byId<HTMLInputElement>("speed");
    speed.oninput = () => {
      byId("speed-value").textContent = `${Math.round(Number(speed.value) * 100)} %`;
      player.setRate(Number(speed.value));
    };
  }

  load(tune: Tune): void {
    this.player.load(tune);
    const names = (each: Tune | null) => each?.voices.map((voice) => voice.name).join();
    if (names(tune) !== names(this.tune)) [this.muted, this.solo] = [new Set(), null];
    this.tune = tune;
    this.position.value = "0";
    this.position.max = String(this.seconds);
    this.showVoices();
    this.showTime(null);
  }

  private get seconds(): number {
    return this.tune?.clock[this.tune.clock.length - 1] ?? 0;
  }

  /** Plays or pauses. */
  async toggle(): Promise<void> {
    if (this.player.isPlaying) {
      this.player.pause();
      return this.showButton();
    }
    await this.play();
  }

  async play(from?: number): Promise<void> {
    try {
      this.button.disabled = true;
      await this.player.play(from);
      this.tick();
    } catch (error) {
      this.say((error as Error).message);
    } finally {
      this.button.disabled = false;
      this.showButton();
    }
  }

  async seek(seconds: number): Promise<void> {
    if (this.player.isPlaying) await this.play(seconds);
    else {
      await this.play(seconds);
      this.player.pause();
      this.showTime(seconds);
      this.showButton();
    }
  }

  private tick(): void {
    if (this.player.isPlaying) {
      this.showTime(this.player.seconds);
      requestAnimationFrame(() => this.tick());
    } else {
      this.showButton();
      if (this.player.seconds >= this.seconds - 0.1) this.showTime(null);
    }
  }

  private showTime(seconds: number | null): void {
    this.score.moveTo(seconds);
    const shown = Math.min(seconds ?? 0, this.seconds);
    if (document.activeElement !== this.position || this.player.isPlaying) this.position.value = String(shown);
    byId("clock").textContent = `${clock(shown)} / ${clock(this.seconds)}`;
  }

  private showButton(): void {
    const isPlaying = this.player.isPlaying;
    this.button.ariaLabel = isPlaying ? "Pause" : "Play";
    this.button.querySelector("path")!.setAttribute("d", isPlaying ? PAUSE : PLAY);
  }

  private showVoices(): void {
    const rows = this.tune!.voices.map((voice, number) => {
      const isHeard = this.solo === null ? !this.muted.has(number) : this.solo === number;
      const mute = make("button", { type: "button", className: "chip voice", textContent: voice.name });
      mute.setAttribute("aria-pressed", String(isHeard));
      mute.title = isHeard ? "Mute" : "Unmute";
      mute.onclick = () => {
        if (this.muted.has(number)) this.muted.delete(number);
        else this.muted.add(number);
        this.setSolo(null);
      };
      const solo = make("button", { type: "button", className: "chip solo", textContent: "solo" });
      solo.ariaLabel = `Solo ${voice.name}, voice ${number + 1}`;
      solo.setAttribute("aria-pressed", String(this.solo === number));
      solo.onclick = () => this.setSolo(this.solo === number ? null : number);
      return make("li", {}, mute, ...(this.tune!.voices.length > 1 ? [solo] : []));
    });
    byId("voices").replaceChildren(...rows);
    const others = [...this.tune!.voices.keys()].filter((number) => number !== this.solo);
    this.player.silence(this.solo === null ? this.muted : new Set(others));
  }

  private setSolo(voice: number | null): void {
    this.solo = voice;
    this.showVoices();
  }
}

function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
