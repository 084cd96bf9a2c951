// node tasks.mjs <chromium> <address of a page> -> JSON: three tasks, done by what is written on the page alone.

import { readFileSync } from "node:fs";
import { idle, LONG, said, stage, Watched } from "./browsing.mjs";

const OWN = "X:1\nT:My tune\nM:4/4\nL:1/4\nK:D\nDFAF|GBdB|Aceg|fdd2|DFAF|GBdB|Ace2|d4|\n";
const browser = await Watched.launch(...process.argv.slice(2));
const { found } = browser;
const page = await browser.open();
const button = (name) => page.getByRole("button", { name, exact: true });
const bar = (number) => page.getByRole("button", { name: `Bar ${number}`, exact: true });

stage("a waltz in G, saved as MIDI");
await page.getByLabel("Meter").selectOption("3/4");
await page.getByLabel("Key").selectOption({ label: "G / Em" });
await page.getByText("Chance and length").click();
await page.getByLabel("Longest tune").fill("200");
await button("Write").click();
await idle(page);
found.title = await page.getByRole("heading", { level: 2 }).textContent();
const [download] = await Promise.all([page.waitForEvent("download", LONG), button("MIDI").click()]);
found.midi = readFileSync(await download.path()).toString("base64");

stage("bars 5 to 8 of an own tune");
const [chooser] = await Promise.all([page.waitForEvent("filechooser"), button("Open your own tune …").click()]);
await chooser.setFiles({ name: "own.abc", mimeType: "text/plain", buffer: Buffer.from(OWN) });
await said(page, "Opened: My tune");
await page.getByText("The text").click();
found.own = await page.getByLabel("ABC notation").inputValue();
await bar(5).click();
await bar(8).click({ modifiers: ["Shift"] });
found.marked = await page.getByText("Bars 5 to 8").isVisible();
await button("Fill in anew").click();
await idle(page);
found.filled = await page.getByLabel("ABC notation").inputValue();

stage("with and without grammar");
await button("With and without grammar").click();
await said(page, "Hear");
found.captions = await page.getByRole("heading", { level: 2, name: /grammar/ }).allTextContents();
await button("Keep this").first().click();
await page.getByRole("heading", { level: 2, name: / in / }).waitFor();
await browser.finish();
