// node campaign.mjs <chromium> <address of a page> <tunes> <fill-ins> <accompaniments> -> one JSON line
// for each text that is written in the browser's worker; nothing is drawn.

import { stage, Watched } from "./browsing.mjs";

const [chromium, address, ...counts] = process.argv.slice(2);
const [nTunes, nFilled, nAccompanied] = counts.map(Number);
const METERS = ["", "2/4", "3/4", "4/4", "6/8", "9/8", "5/4"];
const KEYS = ["", "G", "D", "C", "F", "Bb", "A", "Eb"];
const TEMPOS = [undefined, 90, 120, 170];
const INSTRUMENTS = [
  [], ["Violin"], ["Flute", "Cello"], ["Choir Aahs", "Choir Aahs", "Choir Aahs", "Choir Aahs"],
  ["Acoustic Grand Piano", "Acoustic Bass", "Drums"],
];
const MOST_TOKENS = 400;
const of = (list, number) => list[number % list.length];

const browser = await Watched.launch(chromium, address);
const page = await browser.open();
await page.evaluate(() => {
  const source = `import ${JSON.stringify(new URL("worker.js", document.baseURI).href)};`;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
  const open = new Map();
  worker.onmessage = ({ data: { id, progress, error, answer } }) => {
    if (!progress) open.get(id)(error ? { error } : { answer });
  };
  window.ask = (name, asked) => new Promise((resolve) => {
    open.set(open.size, resolve);
    worker.postMessage({ id: open.size - 1, name, asked });
  });
});

async function ask(name, asked) {
  const { error, answer } = await page.evaluate(([name, asked]) => window.ask(name, asked), [name, asked]);
  if (error) throw new Error(`${name} ${JSON.stringify(asked)}: ${error}`);
  return answer;
}

/** Writes one text; prints and returns it. */
async function written(request, seed) {
  const { abc, seconds, nTokens } = await ask("write", { request, sampling: { seed, temperature: 1, topP: 1 } });
  const { exported, voices, starts, hasEnd } = await ask("show", { abc, width: 900 });
  const nNotes = voices.reduce((sum, { notes }) => sum + notes.length, 0);
  console.log(JSON.stringify({ request, seed, abc, exported, seconds, nTokens, nNotes, hasEnd }));
  return { abc, nBars: starts.length - 1 };
}

await ask("load", { isPlain: false });
const tunes = [];
for (let i = 0; i < nTunes; i++) {
  const [meter, key, tempo, instruments] = [of(METERS, i), of(KEYS, i), of(TEMPOS, i), of(INSTRUMENTS, i)];
  const conditions = { ...(meter && { meter }), ...(key && { key }), ...(tempo && { tempo }), ...(instruments.length && { instruments }) };
  tunes.push(await written({ kind: "write", conditions, prompt: "", hasGrammar: true, mostTokens: MOST_TOKENS }, i));
  if (i % 20 === 19) stage(`${i + 1} tunes`);
}
for (let i = 0; i < nFilled; i++) {
  const { abc: tune, nBars } = of(tunes, i);
  const first = 1 + (i % Math.max(1, nBars - 3));
  await written({ kind: "fill", tune, first, last: Math.min(nBars, first + (i % 4)), mostTokens: MOST_TOKENS }, i);
  if (i % 20 === 19) stage(`${i + 1} fill-ins`);
}
const small = tunes.filter((_, i) => of(INSTRUMENTS, i).length); // the others may have all 15 voices
for (let i = 0; i < nAccompanied; i++) {
  const instruments = of([["Acoustic Bass"], ["Drums"], ["Violin", "Cello"]], i);
  await written({ kind: "accompany", tune: of(small, i).abc, instruments, mostTokens: MOST_TOKENS }, i);
  if (i % 10 === 9) stage(`${i + 1} accompaniments`);
}
await browser.browser.close();
