// node hostile.mjs <chromium> <address of a page> -> JSON: what the page says where files are missing or broken,
// and what its content security policy stops.

import { LONG, said, stage, status, Watched } from "./browsing.mjs";

const browser = await Watched.launch(...process.argv.slice(2));
const { found } = browser;

/** Opens the page with another answer for one file. */
async function opened(file, answer, link = "") {
  const context = await browser.browser.newContext();
  await context.route(`**/${file}`, (route) => route.fulfill(answer));
  const page = await context.newPage();
  await page.goto(browser.address + link);
  await page.waitForFunction(() => document.getElementById("loading").hidden, null, LONG);
  return page;
}

found.starts = {};
const broken = { status: 200, body: "\u00ff".repeat(100) };
for (const [file, answer] of [
  ["model/model.safetensors", { status: 404 }], ["model/model.safetensors", broken], ["python.zip", { status: 404 }],
  ["pyodide/pyodide.asm.wasm", { status: 404 }], ["model/about.json", broken],
]) {
  const page = await opened(file, answer);
  found.starts[`${file} ${answer.status}`] = await status(page);
  await page.context().close();
  stage(`${file} ${answer.status}`);
}

const page = await opened("sound/bank.sf3", { status: 404 },
  "#seed=1&meter=<script>alert(1)</script>&key=H&tempo=9e9&instruments=Kazoo&mostTokens=150&preset=nothing");
await page.waitForFunction(() => !document.body.classList.contains("writing"), null, LONG);
found.link = await status(page);
await page.setInputFiles("#file", { name: "a.abc", mimeType: "text/plain", buffer: Buffer.from("X:1\nK:C\nC4|\n") });
await said(page, "Opened");
await page.click("#play");
await said(page, "missing");
found.silent = await status(page);
found.policy = await page.evaluate(() => new Promise((resolve) => {
  const source = `const tried = [];
    try { eval("1"); tried.push("eval ran"); } catch (error) { tried.push(error.name); }
    fetch("http://elsewhere.example/").then(() => tried.push("fetched"), (error) => tried.push(error.name))
      .then(() => postMessage(tried));`;
  new Worker(URL.createObjectURL(new Blob([source]))).onmessage = ({ data }) => resolve(data);
}));
found.inPage = await page.evaluate(() => {
  const script = document.createElement("script");
  script.textContent = "window.hasRun = true";
  document.body.append(script);
  return window.hasRun ?? false;
});
await browser.finish();
