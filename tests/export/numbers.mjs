// Run the numerical functions of deepfake-detect.js on given pixels: node numbers.mjs MODULE JOBS.json RESULTS.json
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [module, jobs, results] = process.argv.slice(2);
const { resample, cropFace, cropSquare, shrinkArea, normalise, judge, inspectMetadata } = await import(pathToFileURL(module));
const { pictures, cases } = JSON.parse(readFileSync(jobs, "utf-8"));
const base64 = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
const opened = pictures.map(({ data, ...rest }) => ({ ...rest, data: new Uint8Array(Buffer.from(data, "base64")) }));
const verbs = {
  resample: ({ picture, box, size_px, interpolation }) => base64(resample(opened[picture], box, size_px, interpolation)),
  crop: ({ picture, box, preprocessing }) => base64(cropFace(opened[picture], box, preprocessing)),
  square: ({ box, margin, size_hw }) => cropSquare(box, margin, size_hw),
  shrink: ({ picture, width, height }) => base64(shrinkArea(opened[picture], width, height).data),
  normalise: ({ crops, preprocessing }) => base64(normalise(crops.map((crop) => Buffer.from(crop, "base64")), preprocessing)),
  judge: ({ logit, card, threshold }) => judge(logit, card, threshold),
  metadata: ({ bytes, traces }) => inspectMetadata(new Uint8Array(Buffer.from(bytes, "base64")), traces),
};
const answers = [];
for (const { verb, ...rest } of cases) answers.push(await verbs[verb](rest));
writeFileSync(results, JSON.stringify(answers));
