// Score pictures with an exported page's module in headless Chromium: JOB.json RESULT.json; see browser_parity.py.
import { readFileSync, writeFileSync } from "node:fs";
import { launch, serve } from "../tests/export/chromium.mjs";

const [jobFile, resultFile] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, "utf-8"));
const { origin } = await serve(job.site);
const browser = await launch(job.chromium);
const page = await browser.newPage();
await page.goto(`${origin}/`);
await page.waitForFunction(() => document.body.dataset.ready, null, { timeout: 120_000 });
await page.evaluate(async () => {
  const { Detector } = await import("/deepfake-detect.js");
  window.detector = await Detector.load("model/");
});
const results = [];
for (const name of job.pictures) {
  results.push(
    await page.evaluate(async (path) => {
      const picture = await (await fetch(path)).blob();
      const { label, score, seconds, faces } = await window.detector.predict(picture, { metadata: false });
      return { label, score, seconds, faces: faces.map((face) => ({ box: face.box_xyxy, score: face.score })) };
    }, `/${name}`),
  );
}
await browser.close();
writeFileSync(resultFile, JSON.stringify(results));
process.exit(0);
