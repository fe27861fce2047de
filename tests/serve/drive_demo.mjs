// Use the demo in Chromium as a visitor does, and report what is read there: JOB.json RESULT.json
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "../export/chromium.mjs";

const [jobFile, resultFile] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, "utf-8"));
const TIMEOUT = job.timeout ?? 60_000;
const result = { requests: [], errors: [], wide: {} };
const browser = await launch(job.chromium);

async function open(width) {
  const page = await (await browser.newContext({ viewport: { width, height: 900 } })).newPage();
  page.on("request", (request) => result.requests.push(request.url()));
  page.on("pageerror", (error) => result.errors.push(String(error)));
  await page.goto(job.address);
  await page.getByRole("button", { name: "Examine" }).waitFor({ timeout: TIMEOUT });
  return page;
}

async function reports(page, count) {
  await page.waitForFunction((count) => document.querySelectorAll("#reports iframe, #reports .refused").length === count, count, { timeout: TIMEOUT });
  await page.waitForFunction(() => [...document.querySelectorAll("#reports iframe")].every((frame) => frame.contentDocument?.querySelector("main") && frame.contentDocument.documentElement.offsetHeight <= frame.offsetHeight), null, { timeout: TIMEOUT });
  const frames = await page.locator("#reports iframe").all();
  const pages = await Promise.all(frames.map(async (frame) => (await frame.contentFrame()).locator("main").innerText()));
  return { pages, refused: await page.locator("#reports .refused").allInnerTexts() };
}

try {
  for (const width of [1400, 390]) {
    const page = await open(width);
    await page.locator("input[type=file]").first().setInputFiles(job.files);
    for (const file of job.files) await page.getByText(file.split("/").pop().split(".")[0]).first().waitFor({ timeout: TIMEOUT });
    await page.getByRole("button", { name: "Examine" }).click();
    result[width] = await reports(page, job.files.length);
    result.wide[width] = await page.evaluate(() => document.documentElement.scrollWidth);
    const link = page.locator('a[href*=".json"]').first();
    await link.waitFor({ timeout: TIMEOUT });
    result.saved = await (await page.request.get(await link.evaluate((anchor) => anchor.href))).text();
    if (job.screenshots) await page.screenshot({ path: join(job.screenshots, `demo-${width}.png`), fullPage: true });
    if (width === 1400) {
      await page.getByRole("button", { name: /a photograph/ }).click();
      await page.waitForFunction(() => document.querySelectorAll("#reports iframe").length === 1, null, { timeout: TIMEOUT });
      result.example = await reports(page, 1);
    }
    await page.context().close();
  }
} finally {
  await browser.close();
  writeFileSync(resultFile, JSON.stringify(result, null, 1));
}
