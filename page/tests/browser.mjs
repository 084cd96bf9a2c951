// node browser.mjs <chromium> <address of a page> -> JSON: what a walk through the page found.

import { idle, LONG, said, saved, stage, status, text, Watched } from "./browsing.mjs";

const browser = await Watched.launch(...process.argv.slice(2));
const { found } = browser;
const link = "#seed=7&meter=3/4&key=G&tempo=120&instruments=Violin|Cello&mostTokens=150&preset=free&temperature=1";
const page = await browser.open(link);
await idle(page);
stage("written");
await browser.check(page);
found.tune = await text(page);
found.title = await page.textContent("#title");
found.bars = await page.locator(".bars button").count();
found.tooWide = [];
for (const width of [360, 1920, 1100]) {
  await page.setViewportSize({ width, height: 900 });
  await page.waitForTimeout(1000); // the score is drawn anew
  const needed = await page.evaluate(() => document.documentElement.scrollWidth);
  if (needed > width) found.tooWide.push([width, needed]);
}
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
await browser.check(page);
await page.setInputFiles("#file", { name: "a.abc", mimeType: "text/plain",
  buffer: Buffer.from("X:1\nT:<img src=x onerror=alert(1)>\nM:6/8\nL:1/8\nK:D\n|:A2A B2c|d3 d3:|\n") });
await said(page, "Opened");
found.opened = await text(page);
await page.setInputFiles("#file", { name: "large.abc", mimeType: "text/plain", buffer: Buffer.alloc(5_000_000, "C") });
await said(page, "bytes");
found.refused = await status(page);
await page.setInputFiles("#file", { name: "tune.mid", mimeType: "audio/midi", buffer: Buffer.from("MThd") });
await said(page, "tune.mid");
found.elsewhere = await status(page);

stage("comparing");
await page.click("#compare");
await said(page, "Hear");
found.verdicts = await page.$$eval(".verdict", (all) => all.map((each) => each.textContent));
await browser.check(page);
await page.context().close();

stage("without SIMD");
const plain = await browser.open(`?plain${link}`);
await idle(plain);
found.plainTune = await text(plain);
await browser.finish();
