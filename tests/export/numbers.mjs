// Run deepfake-detect.js on given pixels, in one process for many cases: node numbers.mjs MODULE JOBS.json RESULTS.json
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [module, jobs, results] = process.argv.slice(2);
const library = await import(pathToFileURL(module));
const { pictures, cases } = JSON.parse(readFileSync(jobs, "utf-8"));
const fromBase64 = (text) => new Uint8Array(Buffer.from(text, "base64"));
const toBase64 = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength).toString("base64");
const opened = pictures.map(({ data, ...rest }) => ({ ...rest, data: fromBase64(data) }));
let detector = null;

async function refused(action) {
  try {
    await action();
  } catch (error) {
    return [error.code ?? error.name, error.message];
  }
  return null;
}

async function withoutWasm(folder) {
  const { WebAssembly: kept } = globalThis;
  delete globalThis.WebAssembly;
  try {
    return await refused(() => library.Detector.load(pathToFileURL(folder)));
  } finally {
    globalThis.WebAssembly = kept;
  }
}

const verbs = {
  exports: () => Object.keys(library),
  resample: ({ picture, box, size_px, interpolation }) => toBase64(library.resample(opened[picture], box, size_px, interpolation)),
  crop: ({ picture, box, preprocessing }) => toBase64(library.cropFace(opened[picture], box, preprocessing)),
  shrink: ({ picture, width, height }) => toBase64(library.shrinkArea(opened[picture], width, height).data),
  normalise: ({ crops, preprocessing }) => toBase64(library.normalise(crops.map(fromBase64), preprocessing)),
  judge: ({ logit, card, threshold }) => library.judge(logit, card, threshold),
  metadata: ({ bytes, traces }) => library.inspectMetadata(fromBase64(bytes), traces),
  json: ({ value }) => library.pythonJson(value),
  colour: ({ share }) => library.heatColour(share),
  open: ({ bytes }) => refused(() => library.openPicture(fromBase64(bytes))),
  wasm: ({ folder }) => withoutWasm(folder),
  load: async ({ folder }) => {
    detector = await library.Detector.load(pathToFileURL(folder));
    return detector.card.name;
  },
  predict: async ({ picture, options }) => {
    const prediction = await detector.predict(opened[picture], options);
    return { ...prediction, heats: library.heats(prediction, 8).map(({ heat }) => Array.from(heat)), evidence: await detector.evidence(prediction) };
  },
};
const answers = [];
for (const { verb, ...rest } of cases) answers.push(await verbs[verb](rest));
writeFileSync(results, JSON.stringify(answers));
