// node studio.mjs <chromium> <address of a studio> <file of MIDI> -> JSON: what a walk found.

import { idle, LONG, said, stage, status, text, Watched } from "./browsing.mjs";

const [chromium, address, midi] = process.argv.slice(2);
const browser = await Watched.launch(chromium, address);
const { found } = browser;
const page = await browser.open("#seed=7&meter=3/4&key=G&tempo=120&instruments=Violin|Cello&mostTokens=400&preset=free");
await idle(page);
stage("written");
found.tune = await text(page);
found.about = await page.textContent("#about");

stage("opening MIDI");
await page.setInputFiles("#file", midi);
await said(page, "Opened");
found.opened = await text(page);
await page.setInputFiles("#file", { name: "broken.mid", mimeType: "audio/midi", buffer: Buffer.from("MThd") });
await said(page, "cannot be read");
found.broken = await status(page);

stage("filling in");
await page.locator(".bars button").nth(1).click();
await page.click("#fill");
await idle(page);
found.filled = await text(page);

stage("the next token");
await page.click("#text-details summary");
await page.click("#ask-next");
await page.waitForSelector("#next table", LONG);
found.candidates = await page.locator("#next tr").count();

stage("stopping"); // the most probable tokens, over and over, have no end
await page.click("#more summary");
await page.uncheck("#grammar");
await page.fill("#temperature", "0");
await page.fill("#most-tokens", "6000");
await page.click("#write");
await page.click("#stop");
await page.waitForFunction(() => !document.body.classList.contains("writing"), null, LONG);
await page.check("#grammar");
await page.fill("#temperature", "1");
await page.fill("#most-tokens", "300");
await page.click("#write");
await idle(page);
found.afterwards = await text(page);
await browser.check(page);
await browser.finish();
