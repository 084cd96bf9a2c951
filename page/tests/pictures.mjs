// node pictures.mjs <chromium> <address of a page> <folder> -> pictures of the page at three widths, light and
// dark, with a tune and with two beside each other; and page.png, the one for README and site.

import { join } from "node:path";
import { idle, said, stage, Watched } from "./browsing.mjs";

const [chromium, address, folder] = process.argv.slice(2);
const LINK = "#seed=6&meter=6/8&key=G&tempo=120&instruments=Acoustic Grand Piano&mostTokens=1500&preset=jig";
const browser = await Watched.launch(chromium, address);
for (const [width, height] of [[390, 844], [820, 1180], [1440, 1000]]) {
  const page = await browser.open(LINK, { viewport: { width, height } });
  await idle(page);
  if (width === 1440) await page.screenshot({ path: join(folder, "page.png") });
  const buttons = page.locator("#score .bars button");
  await buttons.nth(6).focus();
  await page.keyboard.press("Space");
  await page.keyboard.press("Shift+ArrowRight");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(folder, `tune_${width}_${colorScheme}.png`), fullPage: width < 1000 });
  }
  stage(`tune at ${width}`);
  await page.click("#compare");
  await said(page, "Hear");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(folder, `compared_${width}_${colorScheme}.png`), fullPage: width < 1000 });
  }
  await page.click("#alternatives > button");
  await page.click("#text-details summary");
  await page.click("#more summary");
  await page.click("#ask-next");
  await page.waitForSelector("#next table");
  await page.screenshot({ path: join(folder, `text_${width}.png`), fullPage: true });
  stage(`compared at ${width}`);
  await page.context().close();
}
await browser.finish();
