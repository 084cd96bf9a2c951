// node browser.mjs <chromium> <address of a page> -> JSON: what a walk through the page found.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [executablePath, address] = process.argv.slice(2);
const LONG = { timeout: 240_000 };
const axe = readFileSync(join(import.meta.dirname, "../node_modules/axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const found = { foreign: [], console: [], violations: [] };

async function open(link) {
  const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1100, height: 900 } });
  const page = await context.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && found.console.push(message.text()));
  page.on("pageerror", (error) => found.console.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(address) && !/^(blob|data):/.test(request.url())) found.foreign.push(request.url());
  });
  await page.goto(address + link);
  await page.waitForFunction(() => document.getElementById("loading").hidden, null, LONG);
  return page;
}

const stage = (name) => console.error(`${Math.round(performance.now() / 1000)} s: ${name}`);
const idle = (page) => page.waitForFunction(
  () => !document.body.classList.contains("writing") && / bars|cannot/.test(document.getElementById("status").textContent),
  null, LONG);
const text = (page) => page.inputValue("#text");

async function check(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  found.violations.push(...violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id }) => id));
}

async function saved(page, kind) {
  const [download] = await Promise.all([page.waitForEvent("download", LONG), page.click(`[data-save=${kind}]`)]);
  return readFileSync(await download.path()).toString("base64");
}

const link = "#seed=7&meter=3/4&key=G&tempo=120&instruments=Violin|Cello&mostTokens=150&preset=free";
const page = await open(link);
await idle(page);
stage("written");
await check(page);
found.tune = await text(page);
found.title = await page.textContent("#title");
found.bars = await page.locator(".bars button").count();
stage("saving");
for (const kind of ["abc", "mid", "wav", "svg"]) found[kind] = await saved(page, kind);

stage("filling in");
await page.locator(".bars button").nth(0).focus();
await page.keyboard.press("Space");
found.marked = await page.textContent("#marked");
await page.click("#fill");
await idle(page);
found.filled = await text(page);
await page.click("#undo");
await page.waitForFunction((tune) => document.getElementById("text").value === tune, found.tune, LONG);
await page.click("#accompany");
await idle(page);
found.accompanied = await text(page);

stage("the text");
await page.click("#text-details summary");
await page.click("#ask-next");
await page.waitForSelector("#next table", LONG);
await check(page);
await page.setInputFiles("#file", { name: "a.abc", mimeType: "text/plain",
  buffer: Buffer.from("X:1\nT:<img src=x onerror=alert(1)>\nM:6/8\nL:1/8\nK:D\n|:A2A B2c|d3 d3:|\n") });
await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Opened"), null, LONG);
found.opened = await text(page);
await page.setInputFiles("#file", { name: "large.abc", mimeType: "text/plain", buffer: Buffer.alloc(5_000_000, "C") });
await page.waitForFunction(() => document.getElementById("status").textContent.includes("bytes"), null, LONG);
found.refused = await page.textContent("#status");

stage("comparing");
await page.click("#compare");
await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Hear"), null, LONG);
found.verdicts = await page.$$eval(".verdict", (all) => all.map((each) => each.textContent));
await check(page);
await page.context().close();

stage("without SIMD");
const plain = await open(`?plain${link}`);
await idle(plain);
found.plainTune = await text(plain);
await browser.close();
console.log(JSON.stringify(found));
