// node speed.mjs <chromium> <address of a page> <tunes> -> JSON: how fast a page is as a person uses it,
// with the score drawn as it grows. CPU seconds are those of the page's process and its worker.

import { readdirSync, readFileSync } from "node:fs";
import { chromium } from "playwright-core";
import { LONG } from "./browsing.mjs";

const [executablePath, address, nTunes] = process.argv.slice(2);
const TICKS_PER_SECOND = 100; // of /proc on Linux
const server = await chromium.launchServer({ executablePath, args: ["--no-sandbox"] });
const browser = await chromium.connect(server.wsEndpoint());

/** CPU seconds of the browser's renderers so far. */
function cpuSeconds() {
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const [, rest] = readFileSync(`/proc/${pid}/stat`, "utf8").split(/\) /);
      const fields = rest.split(" ");
      return [{ pid: Number(pid), parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) }];
    } catch {
      return []; // it has ended
    }
  });
  const own = new Set([server.process().pid]);
  let ticks = 0;
  for (let nFound = 0; nFound < own.size;) {
    nFound = own.size;
    for (const { pid, parent } of processes) if (own.has(parent)) own.add(pid);
  }
  for (const { pid, ticks: each } of processes) {
    if (own.has(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer")) ticks += each;
  }
  return ticks / TICKS_PER_SECOND;
}

const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
const opened = performance.now();
const since = () => (performance.now() - opened) / 1000;
await page.goto(address);
await page.waitForFunction(() => document.getElementById("loading").hidden, null, LONG);
const found = { readySeconds: since(), tunes: [] };
for (let i = 0; i < Number(nTunes); i++) {
  const before = cpuSeconds();
  await page.click("#write");
  if (!i) {
    await page.waitForFunction(() => document.querySelector(".abcjs-note"), null, LONG);
    found.firstNoteSeconds = since();
  }
  await page.waitForFunction(() => / notes in /.test(document.getElementById("status").textContent), null, LONG);
  const [, nNotes, seconds] = /(\d+) notes in ([\d.]+) s/.exec(await page.textContent("#status"));
  found.tunes.push({ nNotes: Number(nNotes), seconds: Number(seconds), cpuSeconds: cpuSeconds() - before });
}
await browser.close();
await server.close();
console.log(JSON.stringify(found));
