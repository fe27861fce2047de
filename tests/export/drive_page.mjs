// Use an exported page in headless Chromium, and report what happened: node drive_page.mjs JOB.json RESULT.json
//
// NODE_PATH names a folder with playwright-core and axe-core; the job names the site, the pictures and the checks.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch, require, serve } from "./chromium.mjs";

const TIMEOUT = 120_000;
const ready = (page) => page.waitForFunction(() => document.body?.dataset.ready || document.querySelector("#status.failure"), null, { timeout: TIMEOUT });
const idle = (page) => page.waitForFunction(() => document.body.dataset.waiting === "0", null, { timeout: TIMEOUT });

async function score(page, pictures) {
  const expected = (await page.locator("#results article").count()) + pictures.length;
  const started = Date.now();
  await page.setInputFiles("#files", pictures);
  await page.waitForFunction((count) => document.querySelectorAll("#results article").length >= count, expected, { timeout: TIMEOUT });
  return Date.now() - started;
}

const read = (page) =>
  page.$$eval("#results article", (articles) =>
    articles.map((article) => {
      const text = (selector) => article.querySelector(selector)?.textContent ?? null;
      return {
        name: text(".name"),
        verdict: text(".verdict"),
        faces: [...article.querySelectorAll(".faces li")].map((item) => item.textContent),
        metadata: [...article.querySelectorAll(".metadata li")].map((item) => item.textContent),
        picture: article.querySelector("canvas")?.getAttribute("aria-label") ?? null,
      };
    }),
  );

async function violations(page) {
  const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf-8");
  await page.evaluate(`(() => { const module = undefined; ${axe} })()`);
  const { violations: found } = await page.evaluate(() => window.axe.run());
  return found.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => node.html.slice(0, 120)) }));
}

async function keyboard(page) {
  const reached = [];
  await page.evaluate(() => document.activeElement?.blur());
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.className || document.activeElement?.tagName));
  }
  const asked = page.waitForEvent("filechooser", { timeout: TIMEOUT });
  await page.focus("#choose");
  await page.keyboard.press("Enter");
  const chooser = await asked;
  return { reached, chooses: chooser.isMultiple() };
}

async function widths(page) {
  const overflow = {};
  for (const width of [390, 1400]) {
    await page.setViewportSize({ width, height: 900 });
    overflow[width] = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  }
  return overflow;
}

async function pasteAndDrop(page, picture) {
  const data = readFileSync(picture).toString("base64");
  for (const kind of ["paste", "drop"]) {
    await page.evaluate(
      ([bytes, event]) => {
        const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([content], `${event}.png`, { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        document.dispatchEvent(event === "paste" ? new ClipboardEvent("paste", { ...options, clipboardData: transfer }) : new DragEvent("drop", { ...options, dataTransfer: transfer }));
      },
      [data, kind],
    );
  }
  await idle(page);
}

async function camera(page) {
  await page.click("#use-camera");
  await page.waitForFunction(() => document.querySelector("#video").videoWidth > 0, null, { timeout: TIMEOUT });
  await page.click("#shoot");
  await page.waitForFunction(() => /^camera/.test(document.querySelector("#results .name")?.textContent ?? ""), null, { timeout: TIMEOUT });
  return page.evaluate(() => ({ open: document.querySelector("#camera").open, streams: document.querySelector("#video").srcObject !== null }));
}

async function evidence(page) {
  const [download] = await Promise.all([page.waitForEvent("download", { timeout: TIMEOUT }), page.locator("#results article .save").last().click()]);
  return { file: download.suggestedFilename(), case: JSON.parse(readFileSync(await download.path(), "utf-8")) };
}

async function shoot(page, folder) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [390, 1400]) {
      await page.setViewportSize({ width, height: 900 });
      await page.screenshot({ path: join(folder, `page-${width}-${scheme}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
}

/** Try what a damaged or foreign file does: each answers one request with other bytes. */
async function failures(browser, origin, site) {
  const finder = readFileSync(join(site, "model/finder.onnx"));
  const swapped = JSON.parse(readFileSync(join(site, "model/model.json"), "utf-8"));
  swapped.files.detector = { ...swapped.files.finder, name: "detector.onnx" };
  const cases = {
    damaged: { "model/detector.onnx": Buffer.from("no ONNX file") },
    foreign: { "model/detector.onnx": finder, "model/model.json": Buffer.from(JSON.stringify(swapped)) },
    missing: { "model/finder.onnx": null },
    manifest: { "model/model.json": Buffer.from("{}") },
  };
  const messages = {};
  for (const [name, files] of Object.entries(cases)) {
    const context = await browser.newContext({ serviceWorkers: "block" });
    const page = await context.newPage();
    for (const [file, body] of Object.entries(files)) {
      await context.route(`**/${file}`, (route) => (body ? route.fulfill({ body }) : route.fulfill({ status: 404 })));
    }
    await page.goto(`${origin}/`);
    await ready(page);
    messages[name] = await page.textContent("#status");
    await context.close();
  }
  return messages;
}

/** Give the processor time that all processes of the browser have taken, in seconds. */
async function processorTime(session) {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

async function main() {
  const [jobFile, resultFile] = process.argv.slice(2);
  const job = JSON.parse(readFileSync(jobFile, "utf-8"));
  const { origin, close } = await serve(job.site);
  const browser = await launch(job.chromium, job.args);
  const result = { requests: [], console: [] };
  try {
    const session = await browser.newBrowserCDPSession();
    const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
    context.on("request", (request) => result.requests.push(request.url()));
    const page = await context.newPage();
    page.on("console", (message) => result.console.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => result.console.push(`error: ${error.message}`));
    const [before, started] = [await processorTime(session), Date.now()];
    await page.goto(`${origin}/`);
    await ready(page);
    result.ready_ms = Date.now() - started;
    result.status = await page.textContent("#status");
    await score(page, job.pictures.slice(0, 1));
    result.first_ms = Date.now() - started;
    result.first_cpu_s = (await processorTime(session)) - before;
    await page.waitForFunction(() => document.body.dataset.offline === "true", null, { timeout: TIMEOUT });
    result.requests_while_loading = result.requests.length;
    result.later_ms = [];
    const middle = await processorTime(session);
    for (const picture of job.pictures.slice(1)) result.later_ms.push(await score(page, [picture]));
    result.later_cpu_s = ((await processorTime(session)) - middle) / Math.max(1, result.later_ms.length);
    result.results = (await read(page)).reverse();
    result.about = await page.textContent("#about");
    if (job.evidence) result.evidence = await evidence(page);
    if (job.usable) {
      await page.locator("#results article .heat:visible").first().click();
      result.widths = await widths(page);
      result.violations = { light: await violations(page) };
      await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" }); // colours at once
      result.violations.dark = await violations(page);
      await page.emulateMedia({ colorScheme: "light" });
      result.keyboard = await keyboard(page);
      await pasteAndDrop(page, job.pictures[0]);
      result.camera = await camera(page);
      result.taken = (await read(page)).map(({ name, verdict }) => ({ name, verdict }));
    }
    if (job.screenshots) await shoot(page, job.screenshots);
    result.requests_before_offline = result.requests.slice(result.requests_while_loading);
    if (job.offline) {
      await context.setOffline(true);
      close();
      await page.reload();
      await ready(page);
      result.isolated = await page.evaluate(() => crossOriginIsolated);
      await score(page, job.pictures.slice(0, 1));
      result.offline = await read(page);
      await page.waitForFunction(() => document.body.dataset.offline === "true", null, { timeout: TIMEOUT });
      result.offline_about = await page.textContent("#about");
    }
    await context.close();
    if (job.failures) result.failures = await failures(browser, (await serve(job.site)).origin, job.site);
  } finally {
    await browser.close();
    result.origin = origin;
    writeFileSync(resultFile, JSON.stringify(result, null, 1));
  }
  process.exit(0);
}

await main();
