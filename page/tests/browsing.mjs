// A page in chromium, for tests: opened, watched, and waited for.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const LONG = { timeout: 240_000 };
const axe = readFileSync(join(import.meta.dirname, "../node_modules/axe-core/axe.min.js"), "utf8");

/** A browser that notes what is asked of others, said in the console, and hard to use. */
export class Watched {
  found = { foreign: [], console: [], violations: [] };

  constructor(browser, address) {
    [this.browser, this.address] = [browser, address];
  }

  static async launch(executablePath, address) {
    return new Watched(await chromium.launch({ executablePath, args: ["--no-sandbox"] }), address);
  }

  /** Opens the page; resolves once it is ready, or cannot start. */
  async open(link = "", settings = {}) {
    const { found, address } = this;
    const size = { width: 1100, height: 900 };
    const context = await this.browser.newContext({ acceptDownloads: true, viewport: size, ...settings });
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

  /** Notes what hinders screen readers and keyboards. */
  async check(page) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    this.found.violations.push(...serious.map(({ id }) => id));
  }

  /** Ends, and prints what was found. */
  async finish() {
    await this.browser.close();
    console.log(JSON.stringify(this.found));
  }
}

export const stage = (name) => console.error(`${Math.round(performance.now() / 1000)} s: ${name}`);
export const text = (page) => page.inputValue("#text");
export const status = (page) => page.textContent("#status");

export const idle = (page) => page.waitForFunction(
  () => !document.body.classList.contains("writing") && / bars|cannot/.test(document.getElementById("status").textContent),
  null, LONG);

/** Waits until the line on the page's state holds some words. */
export const said = (page, words) => page.waitForFunction(
  (expected) => document.getElementById("status").textContent.includes(expected), words, LONG);

export async function saved(page, kind) {
  const [download] = await Promise.all([page.waitForEvent("download", LONG), page.click(`[data-save=${kind}]`)]);
  return readFileSync(await download.path()).toString("base64");
}
