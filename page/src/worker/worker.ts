// The worker: the model, and the project's Python beside it.

import { loadKernels } from "../engine/kernels";
import { makeDecoder, Reader, type ModelConfig } from "../engine/decoder";
import { probabilities } from "../engine/sampling";
import { readTensors } from "../engine/weights";
import type { Progress, Questions } from "./messages";
import { plainMessage, startPython, type PythonPage } from "./python";
import { Studio } from "./studio";
import { writeTune } from "./writing_loop";

type Name = keyof Questions;
type Asked<N extends Name> = Questions[N][0];
type Answer<N extends Name> = Questions[N][1];

const SLICE_MS = 25; // how long the worker writes without looking for messages
const base = new URL("./", import.meta.url).href;
let reader: Reader;
let page: PythonPage;
let texts: string[] = [];
let endId = 0;
let hasStopped = false;
let studio: Studio | null = null; // which computes instead of the engine
let reads: string[] = [];

async function fetched(name: string): Promise<ArrayBuffer> {
  const response = await fetch(base + name);
  if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
  return response.arrayBuffer();
}

const fetchedText = async (name: string) => new TextDecoder().decode(await fetched(name));

async function fetchedJson(name: string) {
  const text = await fetchedText(name);
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is broken: it is not JSON`);
  }
}

async function load({ isPlain }: Asked<"load">, tell: (progress: Progress) => void): Promise<Answer<"load">> {
  let nDone = 0;
  const step = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work;
    tell({ share: ++nDone / 4, text: nDone < 3 ? "Loading the model" : "Starting" });
    return result;
  };
  const [about, tokenizer, archive, config] = await Promise.all([
    fetchedJson("model/about.json"), step(fetchedText("model/tokenizer.json")),
    step(fetched("python.zip")), fetchedJson("model/config.json"),
  ]);
  studio = about.isServed ? new Studio(base) : null;
  reads = about.reads;
  [page] = await Promise.all([
    step(startPython(base, archive, tokenizer, about.trained_length)),
    studio ? null : step(loadEngine(config, isPlain)),
  ]);
  const facts = JSON.parse(page.facts());
  texts = facts.tokens;
  endId = Number(config.eos_token_id);
  return { ...facts, ...about };
}

async function loadEngine(config: ModelConfig, isPlain: boolean): Promise<void> {
  const [wasm, weights] = await Promise.all([fetched("kernels.wasm"), fetched("model/model.safetensors")]);
  reader = new Reader(makeDecoder(await loadKernels(wasm, isPlain), config, readTensors(weights)));
}

/** Lets waiting messages in. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

async function write(
  { request, sampling }: Asked<"write">, tell: (progress: Progress) => void,
): Promise<Answer<"write">> {
  if (studio) return studio.write(request, sampling, (text) => tell({ share: 0, text }));
  hasStopped = false;
  const task = page.begin(JSON.stringify(request));
  const newlines = new Set(texts.flatMap((text, id) => (text.includes("\n") ? [id] : [])));
  let sliceEnd = performance.now() + SLICE_MS;
  const pause = async (lineEnded: boolean) => {
    if (lineEnded) tell({ share: 0, text: task.tune() });
    if (performance.now() > sliceEnd) {
      await breathe();
      sliceEnd = performance.now() + SLICE_MS;
    }
    return hasStopped;
  };
  try {
    return await writeTune(reader, task, sampling, endId, newlines, pause);
  } finally {
    task.destroy();
  }
}

async function next({ text, sampling }: Asked<"next">): Promise<Answer<"next">> {
  const { ids, legal, error } = JSON.parse(page.next(text));
  const temperature = sampling.temperature || 1;
  const chances = studio
    ? await studio.probabilities(ids, temperature)
    : probabilities(reader.begin(ids), temperature);
  const isLegal = new Set<number>(legal ?? chances.keys());
  const candidates = Array.from(chances, (probability: number, token) => ({
    text: token === endId ? "end" : texts[token], probability, isLegal: isLegal.has(token),
  }));
  const shown = candidates.filter((candidate) => candidate.text); // special tokens have none
  shown.sort((a, b) => b.probability - a.probability);
  return { candidates: shown.slice(0, 16), error };
}

/** Opens a file: ABC here, all else in the studio. */
async function open({ name, content }: Asked<"open">): Promise<Answer<"open">> {
  const suffix = /\.[^.]*$/.exec(name.toLowerCase())?.[0] ?? "";
  if (!suffix || reads.includes(suffix)) return JSON.parse(page.open(content));
  if (studio) return studio.open(name, content);
  throw new Error(`${name} is no ${reads.join(" or ")} file. MIDI and scores are read by the studio: make studio`);
}

const answers: { [N in Name]: (asked: Asked<N>, tell: (progress: Progress) => void) => Answer<N> | Promise<Answer<N>> } = {
  load,
  write,
  next,
  show: ({ abc, width }) => JSON.parse(page.show(abc, width)),
  open,
  stop: () => {
    hasStopped = true;
    studio?.stop();
    return null;
  },
};

onmessage = async ({ data: { id, name, asked } }: MessageEvent<{ id: number; name: Name; asked: never }>) => {
  try {
    const answer = await answers[name](asked, (progress) => postMessage({ id, progress }));
    postMessage({ id, answer });
  } catch (error) {
    postMessage({ id, error: plainMessage(error) });
  }
};
