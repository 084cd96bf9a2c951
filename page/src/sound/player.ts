// Plays a tune with the sound bank, which is loaded at the first use.

import { BasicMIDI } from "spessasynth_core";
import { audioBufferToWav, Sequencer, WorkletSynthesizer } from "spessasynth_lib";
import type { Tune } from "../worker/messages";
import { channelsOf, midiFile } from "./midi_file";

const SYNTHESIZER = "sound/synthesizer.js";
const BANK = "sound/bank.sf3";
const SAMPLE_RATE = 44_100;
const TAIL_SECONDS = 2; // that the last notes ring on

export class Player {
  private bank: Promise<ArrayBuffer> | null = null;
  private context: AudioContext | null = null;
  private synthesizer: WorkletSynthesizer | null = null;
  private sequencer: Sequencer | null = null;
  private tune: Tune | null = null;
  private silent = new Set<number>(); // voices
  private isLoaded = false;
  rate = 1;

  get isPlaying(): boolean {
    return this.sequencer !== null && this.isLoaded && !this.sequencer.paused && !this.sequencer.isFinished;
  }

  /** Seconds from the start of the tune, at its own tempo. */
  get seconds(): number {
    return this.isLoaded ? this.sequencer!.currentHighResolutionTime : 0;
  }

  /** Takes another tune; stops if one is playing. */
  load(tune: Tune): void {
    this.stop();
    this.tune = tune;
    this.isLoaded = false;
  }

  /** Plays from where it is, or from a time. */
  async play(from?: number): Promise<void> {
    if (!this.tune) return;
    await this.start();
    const sequencer = this.sequencer!;
    if (!this.isLoaded) {
      sequencer.loadNewSongList([{ binary: midiFile(this.tune).buffer, fileName: "tune.mid" }]);
      this.isLoaded = true;
    } else if (sequencer.isFinished && from === undefined) {
      from = 0;
    }
    sequencer.playbackRate = this.rate;
    this.applySilence();
    sequencer.play();
    if (from !== undefined) sequencer.currentTime = from;
  }

  pause(): void {
    if (this.isPlaying) this.sequencer!.pause();
  }

  stop(): void {
    this.pause();
    this.synthesizer?.stopAll(true);
  }

  setRate(rate: number): void {
    this.rate = rate;
    if (this.isLoaded) this.sequencer!.playbackRate = rate;
  }

  /** Silences voices, and no others. */
  silence(voices: Set<number>): void {
    this.silent = voices;
    this.applySilence();
  }

  private applySilence(): void {
    if (!this.synthesizer || !this.tune) return;
    const channels = channelsOf(this.tune.voices);
    for (const channel of this.synthesizer.midiChannels.keys()) {
      const own = channels.flatMap((each, voice) => (each === channel ? [voice] : []));
      const isMuted = own.length > 0 && own.every((voice) => this.silent.has(voice));
      this.synthesizer.midiChannels[channel].setSystemParameter("isMuted", isMuted);
    }
  }

  private async start(): Promise<void> {
    if (this.synthesizer) return void (await this.context!.resume());
    this.context = new AudioContext({ sampleRate: SAMPLE_RATE });
    await this.context.resume();
    const [bank] = await this.loadSound(this.context);
    this.synthesizer = new WorkletSynthesizer(this.context);
    this.synthesizer.connect(this.context.destination);
    await this.synthesizer.soundBankManager.addSoundBank(bank.slice(0), "bank");
    await this.synthesizer.isReady;
    this.sequencer = new Sequencer(this.synthesizer, { skipToFirstNoteOn: false });
    this.sequencer.loopCount = 0;
  }

  /** Loads the bank, and the synthesizer into a context. */
  private loadSound({ audioWorklet }: BaseAudioContext): Promise<[ArrayBuffer, void]> {
    if (!audioWorklet) throw new Error("Sound needs a page from https, or from the machine of the browser (localhost).");
    return Promise.all([this.loadBank(), audioWorklet.addModule(SYNTHESIZER)]);
  }

  private loadBank(): Promise<ArrayBuffer> {
    this.bank ??= fetch(BANK).then((response) => {
      if (!response.ok) throw new Error(`the sounds are missing (${BANK}, ${response.status})`);
      return response.arrayBuffer();
    });
    return this.bank;
  }

  /** Renders a tune offline. */
  async render(tune: Tune): Promise<AudioBuffer> {
    const seconds = tune.clock[tune.clock.length - 1] + TAIL_SECONDS;
    const context = new OfflineAudioContext(2, Math.ceil(seconds * SAMPLE_RATE), SAMPLE_RATE);
    const [bank] = await this.loadSound(context);
    const synthesizer = new WorkletSynthesizer(context);
    synthesizer.connect(context.destination);
    await synthesizer.startOfflineRender({
      midiSequence: BasicMIDI.fromArrayBuffer(midiFile(tune).buffer),
      loopCount: 0,
      soundBankList: [{ bankOffset: 0, soundBankBuffer: bank.slice(0) }],
      sequencerOptions: { skipToFirstNoteOn: false },
    });
    return context.startRendering();
  }

  /** A WAV file of a tune. */
  async wav(tune: Tune): Promise<Blob> {
    return audioBufferToWav(await this.render(tune));
  }
}
