// node write.mjs <folder of a page> <request as JSON> <seed> -> the tune, written in Node.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadPyodide } from "pyodide";
import { bytesOf, readerOf, writeTune } from "./engine.mjs";

const [folder, request, seed] = process.argv.slice(2);
const read = (name) => readFileSync(join(folder, "model", name), "utf8");
const python = await loadPyodide();
python.unpackArchive(bytesOf(join(folder, "python.zip")), "zip");
const makePage = python.runPython("from page.python.api import Page; Page");
const page = makePage(read("tokenizer.json"), JSON.parse(read("about.json")).trained_length);
const reader = await readerOf(join(folder, "model"), join(folder, "kernels.wasm"), false);
const sampling = { seed: Number(seed), temperature: 1, topP: 1 };
const endId = JSON.parse(read("config.json")).eos_token_id;
const { abc } = await writeTune(reader, page.begin(request), sampling, endId, new Set(), async () => false);
console.log(abc);
