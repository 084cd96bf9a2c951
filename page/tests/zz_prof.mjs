import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadPyodide } from "pyodide";
import { bytesOf, readerOf, writeTune } from "./engine.mjs";
const [folder, model, n] = process.argv.slice(2);
const read = (name) => readFileSync(join(folder, "model", name), "utf8");
const python = await loadPyodide();
python.unpackArchive(bytesOf(join(folder, "python.zip")), "zip");
const makePage = python.runPython("from page.python.api import Page; Page");
const page = makePage(read("tokenizer.json"), JSON.parse(read("about.json")).trained_length);
const reader = await readerOf(model, join(folder, "kernels.wasm"), false);
const cpu = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1e3; };
for (let i = 0; i < Number(n); i++) {
  const at = { begin: 0, accept: 0, legal: 0, forced: 0, read: 0, n: {} };
  const timed = (key, f) => (...a) => { const t = cpu(); const r = f(...a); at[key] += cpu() - t; at.n[key] = (at.n[key] ?? 0) + 1; return r; };
  const task = page.begin(JSON.stringify({ kind: "write", conditions: { meter: "6/8", key: "G", tempo: 170, instruments: ["Violin"] }, prompt: "", hasGrammar: true, mostTokens: 1500 }));
  const wrapped = { begin: timed("begin", () => task.begin()), accept: timed("accept", (t) => task.accept(t)), legal: timed("legal", () => task.legal()),
    forced: timed("forced", () => task.forced()), is_over: () => task.is_over(), tune: () => task.tune() };
  const r = { begin: timed("read", (ids) => reader.begin(ids)), read: timed("read", (ids) => reader.read(ids)) };
  const c0 = cpu();
  const w = await writeTune(r, wrapped, { seed: i, temperature: 1, topP: 1 }, 2, new Set(), async () => false);
  const c1 = cpu();
  const notes = JSON.parse(page.show(w.abc, 900)).voices.reduce((s, v) => s + v.notes.length, 0);
  console.log("tune", i, "tokens", w.nTokens, "replaced", w.nReplaced, "notes", notes, "wall", w.seconds.toFixed(2), "cpu ms", (c1 - c0).toFixed(0), "notes/cpu s", (1000 * notes / (c1 - c0)).toFixed(0), JSON.stringify(Object.fromEntries(Object.entries(at).map(([k, v]) => [k, typeof v === "number" ? Math.round(v) : v]))));
}
