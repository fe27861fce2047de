// Load the extension in Chromium, click its menu entry on a picture, and report the verdict: JOB.json RESULT.json
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, serve } from "./chromium.mjs";

const TIMEOUT = 120_000;
const [jobFile, resultFile] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, "utf-8"));
const profile = mkdtempSync(join(tmpdir(), "extension-"));
const { origin } = await serve(job.pictures);
const context = await chromium.launchPersistentContext(profile, {
  executablePath: job.chromium,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-features=DisableLoadExtensionCommandLineSwitch",
    `--disable-extensions-except=${job.extension}`,
    `--load-extension=${job.extension}`,
  ],
});
const result = { verdicts: {}, requests: [] };
context.on("request", (request) => result.requests.push(request.url()));

async function verdictOf(worker, name) {
  const opened = context.waitForEvent("page", { timeout: TIMEOUT });
  await worker.evaluate((srcUrl) => chrome.contextMenus.onClicked.dispatch({ menuItemId: "check", srcUrl }), `${origin}/${name}`);
  const page = await opened;
  await page.waitForFunction(() => document.querySelector("#verdict")?.className !== "verdict", null, { timeout: TIMEOUT });
  const text = (id) => page.textContent(`#${id}`);
  const verdict = { verdict: await text("verdict"), metadata: await text("metadata"), isolated: await page.evaluate(() => crossOriginIsolated) };
  if (job.screenshots) await page.screenshot({ path: join(job.screenshots, `extension-${name}.png`), fullPage: true });
  await page.close();
  return verdict;
}

try {
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker", { timeout: TIMEOUT }));
  await worker.evaluate(() => new Promise((resolve) => (self.registration.active?.state === "activated" ? resolve() : setTimeout(resolve, 200))));
  for (const name of job.names) result.verdicts[name] = await verdictOf(worker, name);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
  writeFileSync(resultFile, JSON.stringify({ ...result, origin }, null, 1));
}
process.exit(0);
