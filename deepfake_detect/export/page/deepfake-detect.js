/**
 * Detect deepfakes in pictures, in a browser or in Node: faces, crops, scores, heat maps and metadata.
 *
 * Everything between decoded pixels and the verdict is computed as the Python package `deepfake-detect` does: the
 * search for faces, the crop, the resampling (byte for byte), the normalisation, the calibration and the thresholds.
 * Results have the fields and units of Python's `Prediction.to_dict()`.
 *
 *     import { Detector } from "./deepfake-detect.js";
 *     const detector = await Detector.load("model/");
 *     const prediction = await detector.predict(file);  // Blob, bytes, ImageData, ImageBitmap, <img>, <canvas>, <video>
 *     console.log(prediction.label, prediction.score);
 *
 * A picture is `{ data, width, height, channels }`: rows of 8-bit RGB (3) or RGBA (4) without gaps. A box is
 * `[left, top, right, bottom]` in pixels.
 */

/** Most pixels of a picture that are decoded here: four bytes for each must fit in the memory of a tab. */
export const MAX_PIXELS = 64_000_000;

const WORKER_NAME = "deepfake-detect";

/** A failure with a `code` for programs and a `message` for people. */
export class DetectorError extends Error {
  /**
   * @param {string} code "no-wasm", "load-failed", "model-damaged", "model-unknown", "image-unreadable",
   *   "image-too-large", "invalid-option" or "failed".
   * @param {string} message What was found, what was expected, and what to do.
   */
  constructor(code, message) {
    super(message);
    this.name = "DetectorError";
    this.code = code;
  }
}

// ---------------------------------------------------------------- resampling (inputs/resize.py)

const STEPS = 2 ** 22; // Pillow's weights are multiples of its inverse

const KERNELS = {
  bilinear: { reach: 1, weigh: (d) => (d < 1 ? 1 - d : 0) },
  bicubic: {
    reach: 2,
    weigh: (d) => (d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? (((d - 5) * d + 8) * d - 4) * -0.5 : 0),
  },
};

/**
 * Scale a part of a picture to a square of RGB: Pillow's antialiased "bilinear" and "bicubic", or "mipmap".
 *
 * @returns {Uint8Array} sizePx * sizePx * 3 values.
 */
export function resample(image, box, sizePx, interpolation) {
  if (!(interpolation in KERNELS) && interpolation !== "mipmap") {
    throw new DetectorError("invalid-option", `interpolation is "${interpolation}", expected bilinear, bicubic or mipmap`);
  }
  const { width, height } = image;
  const rgb = toRgb(image);
  if (!box && width === sizePx && height === sizePx) return rgb.data.slice();
  const [left, top, right, bottom] = box ?? [0, 0, width, height];
  if (interpolation === "mipmap") return mipmap(rgb, [left, top, right, bottom], sizePx).data;
  const across = weightsOf(width, Math.fround(left), Math.fround(right), sizePx, KERNELS[interpolation]);
  const down = weightsOf(height, Math.fround(top), Math.fround(bottom), sizePx, KERNELS[interpolation]);
  const isDownFirst = height - sizePx > 0 && height - sizePx > 2 * (width - sizePx); // Pillow's rule
  const scaled = isDownFirst ? shrinkAcross(shrinkDown(rgb, down), across) : shrinkDown(shrinkAcross(rgb, across), down);
  return scaled.data;
}

/** Work out where each pixel of the result begins, and its weights, as Pillow's `precompute_coeffs` does. */
function weightsOf(length, start, end, size, { reach, weigh }) {
  const scale = Math.fround(end - start) / size;
  const wide = Math.max(scale, 1);
  const inverse = 1 / wide;
  const taps = Math.ceil(reach * wide) * 2 + 1;
  const plan = { size, taps, first: new Int32Array(size), count: new Int32Array(size), weights: new Int32Array(size * taps) };
  const exact = new Float64Array(taps);
  for (let i = 0; i < size; i++) {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach * wide + 0.5), 0);
    const count = Math.max(0, Math.min(Math.trunc(centre + reach * wide + 0.5), length) - first);
    let total = 0;
    for (let k = 0; k < count; k++) {
      exact[k] = weigh(Math.abs(first + k - centre + 0.5) * inverse);
      total += exact[k];
    }
    for (let k = 0; k < count; k++) {
      const weight = total === 0 ? exact[k] : exact[k] / total;
      plan.weights[i * taps + k] = Math.trunc(weight * STEPS + (weight < 0 ? -0.5 : 0.5));
    }
    plan.first[i] = first;
    plan.count[i] = count;
  }
  return plan;
}

/** Round a sum of weighted bytes, which fits in 31 bits, to a byte. */
function rounded(sum) {
  const value = (sum + STEPS / 2) >> 22;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function shrinkAcross({ data, width, height }, { size, taps, first, count, weights }) {
  const result = new Uint8Array(size * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let i = 0; i < size; i++, at += 3) {
      let r = 0;
      let g = 0;
      let b = 0;
      const end = i * taps + count[i];
      for (let k = i * taps, from = (y * width + first[i]) * 3; k < end; k++, from += 3) {
        const weight = weights[k];
        r = (r + Math.imul(weight, data[from])) | 0;
        g = (g + Math.imul(weight, data[from + 1])) | 0;
        b = (b + Math.imul(weight, data[from + 2])) | 0;
      }
      result[at] = rounded(r);
      result[at + 1] = rounded(g);
      result[at + 2] = rounded(b);
    }
  }
  return { data: result, width: size, height, channels: 3 };
}

function shrinkDown({ data, width }, { size, taps, first, count, weights }) {
  const row = width * 3;
  const result = new Uint8Array(row * size);
  const sums = new Int32Array(row);
  for (let i = 0; i < size; i++) {
    sums.fill(0);
    for (let k = 0; k < count[i]; k++) {
      const weight = weights[i * taps + k];
      for (let x = 0, from = (first[i] + k) * row; x < row; x++, from++) sums[x] += Math.imul(weight, data[from]);
    }
    for (let x = 0, at = i * row; x < row; x++, at++) result[at] = rounded(sums[x]);
  }
  return { data: result, width, height: size, channels: 3 };
}

/** Halve until less than two times too large, then scale linearly in whole numbers: see inputs/resize.py. */
function mipmap(image, [x1, y1, x2, y2], sizePx) {
  const left = Math.min(Math.floor(x1 + 0.5), image.width - 1);
  const top = Math.min(Math.floor(y1 + 0.5), image.height - 1);
  const width = Math.max(1, Math.floor(x2 - x1 + 0.5));
  const height = Math.max(1, Math.floor(y2 - y1 + 0.5));
  let part = cutOut(image, left, top, Math.min(left + width, image.width), Math.min(top + height, image.height));
  while (Math.max(part.width, part.height) >= 2 * sizePx) {
    part = halve(part, { down: part.height >= 2 * sizePx, across: part.width >= 2 * sizePx });
  }
  return part.width === sizePx && part.height === sizePx ? part : scaleLinearly(part, sizePx);
}

function halve({ data, width, height }, { down, across }) {
  const [columns, rows] = [across ? width >> 1 : width, down ? height >> 1 : height];
  const [right, below] = [across ? 3 : 0, down ? width * 3 : 0];
  const [stepX, stepY] = [across ? 6 : 3, (down ? 2 : 1) * width * 3];
  const result = new Uint8Array(columns * rows * 3);
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0, from = y * stepY; x < columns; x++, from += stepX) {
      for (let c = from; c < from + 3; c++) {
        // with one side alone halved, two pixels count twice: (2a + 2b + 2) >> 2 is (a + b + 1) >> 1
        result[at++] = (data[c] + data[c + right] + data[c + below] + data[c + below + right] + 2) >> 2;
      }
    }
  }
  return { data: result, width: columns, height: rows, channels: 3 };
}

function scaleLinearly({ data, width, height }, sizePx) {
  const [across, down] = [linearPlaces(width, sizePx), linearPlaces(height, sizePx)];
  const between = new Uint16Array(height * sizePx * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (const { lower, upper, weight } of across) {
      for (let c = 0; c < 3; c++) {
        const row = y * width;
        between[at++] = (256 - weight) * data[(row + lower) * 3 + c] + weight * data[(row + upper) * 3 + c];
      }
    }
  }
  const row = sizePx * 3;
  const result = new Uint8Array(sizePx * row);
  for (let y = 0, at = 0; y < sizePx; y++) {
    const { lower, upper, weight } = down[y];
    for (let x = 0; x < row; x++) {
      const value = (256 - weight) * between[lower * row + x] + weight * between[upper * row + x];
      result[at++] = (value + 32768) >>> 16;
    }
  }
  return { data: result, width: sizePx, height: sizePx, channels: 3 };
}

function linearPlaces(length, size) {
  return Array.from({ length: size }, (_, i) => {
    const x = ((i + 0.5) * length) / size - 0.5;
    const place = Math.floor(x);
    return {
      lower: Math.min(Math.max(place, 0), length - 1),
      upper: Math.min(Math.max(place + 1, 0), length - 1),
      weight: roundHalfEven((x - place) * 256),
    };
  });
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

function toRgb(image) {
  if (image.channels === 3) return image;
  return cutOut(image, 0, 0, image.width, image.height);
}

/** Copy a part of a picture as RGB. */
function cutOut({ data, width, channels }, left, top, right, bottom) {
  const result = new Uint8Array((right - left) * (bottom - top) * 3);
  for (let y = top, at = 0; y < bottom; y++) {
    const from = (y * width + left) * channels;
    if (channels === 3) {
      result.set(data.subarray(from, from + (right - left) * 3), at);
      at += (right - left) * 3;
      continue;
    }
    for (let x = from, end = from + (right - left) * channels; x < end; x += channels) {
      result[at++] = data[x];
      result[at++] = data[x + 1];
      result[at++] = data[x + 2];
    }
  }
  return { data: result, width: right - left, height: bottom - top, channels: 3 };
}

// ---------------------------------------------------------------- crops (faces/crop.py, predict/preprocess.py)

/** Choose the square around a face that a model sees: `margin` times the longer side, moved inside the picture. */
export function cropSquare([x1, y1, x2, y2], margin, [height, width]) {
  const side = Math.max(1, Math.min(margin * Math.max(x2 - x1, y2 - y1), height, width));
  const left = Math.min(Math.max((x1 + x2 - side) / 2, 0), width - side);
  const top = Math.min(Math.max((y1 + y2 - side) / 2, 0), height - side);
  return [left, top, left + side, top + side];
}

/** Cut the square around a face and scale it to the model's input. @returns {Uint8Array} RGB. */
export function cropFace(image, box, { margin, size_px: sizePx, interpolation }) {
  const square = cropSquare(box, margin, [image.height, image.width]);
  const [x1, y1, x2, y2] = square;
  const reach = 3 + Math.trunc((3 * Math.max(x2 - x1, y2 - y1)) / sizePx); // what the filter sees beyond the square
  const left = Math.max(0, Math.trunc(x1) - reach);
  const top = Math.max(0, Math.trunc(y1) - reach);
  const right = Math.min(image.width, Math.trunc(x2) + reach + 1);
  const bottom = Math.min(image.height, Math.trunc(y2) + reach + 1);
  const part = cutOut(image, left, top, right, bottom);
  return resample(part, [x1 - left, y1 - top, x2 - left, y2 - top], sizePx, interpolation);
}

/** Turn crops into the input of the model. @returns {Float32Array} [N, 3, sizePx, sizePx], (value / 255 - mean) / std. */
export function normalise(crops, { size_px: sizePx, mean, std }) {
  const places = sizePx * sizePx;
  const batch = new Float32Array(crops.length * 3 * places);
  const tables = [0, 1, 2].map((c) => {
    const scale = Math.fround(1 / Math.fround(255 * Math.fround(std[c])));
    const shift = Math.fround(Math.fround(mean[c]) / Math.fround(std[c]));
    return Float32Array.from({ length: 256 }, (_, value) => Math.fround(Math.fround(value * scale) - shift));
  });
  crops.forEach((crop, n) => {
    for (let c = 0; c < 3; c++) {
      const at = (n * 3 + c) * places;
      for (let i = 0; i < places; i++) batch[at + i] = tables[c][crop[3 * i + c]];
    }
  });
  return batch;
}

// ---------------------------------------------------------------- the verdict (predict/verdict.py)

/** Turn a logit into `[score, label]`, as the card says; a `threshold` leaves the card's uncertain band aside. */
export function judge(logit, card, threshold = null) {
  if (!Number.isFinite(logit)) {
    throw new DetectorError("model-unknown", `the model gave the logit ${logit}, expected a finite number; export it again`);
  }
  const score = sigmoid(logit / card.temperature + card.bias);
  const band = card.uncertain;
  if (threshold === null && band && band[0] < score && score < band[1]) return [score, "uncertain"];
  return [score, score >= (threshold ?? card.threshold) ? "fake" : "real"];
}

function sigmoid(value) {
  return value >= 0 ? 1 / (1 + Math.exp(-value)) : Math.exp(value) / (1 + Math.exp(value));
}

// ---------------------------------------------------------------- faces (faces/finder.py, faces/yunet.py)

const SIDES_PX = [256, 768]; // longer side that a picture is shrunk to, for large and for small faces
const CLOSER_PX = 3072; // the same for a closer look, in tiles
const CLOSER_THRESHOLD = 0.8;
const FACE_THRESHOLD = 0.5;
const CONVINCING = 0.95; // confidence from which the picture is surely upright
const TURNED_MARGIN = 0.03;
const SMALL_PX = 48;
const TILE_OVERLAP_PX = 128;
const OVERLAP = 0.3; // intersection over union from which two boxes are one face
const STRIDES = [8, 16, 32];
const MOST_FACES = 500;
const CONFIDENCE = 14; // a row holds x, y, width, height, five points, confidence

/**
 * Find the faces of a picture, largest first.
 *
 * @param image The picture.
 * @param run Runs the network: `async (input, height, width) => ({ cls_8: Float32Array, ... })`, input [1, 3, H, W] BGR.
 * @param {{ border?: boolean }} options Whether to look once more with a border where no face is found.
 */
export async function findFaces(image, run, { border = true } = {}) {
  let rows = await lookTwice(image, run);
  if (mayHoldSmallFaces(rows, image)) rows = addNew(rows, await lookCloser(image, run));
  if (border && !rows.length) rows = await lookWithBorder(image, run);
  if (await isTurned(rows, image, run)) return [];
  const faces = rows.map((row) => toFace(row, image)).filter((face) => area(face.box_xyxy) >= 1);
  return faces.sort((a, b) => area(b.box_xyxy) - area(a.box_xyxy));
}

async function lookTwice(image, run) {
  const longer = Math.max(image.width, image.height);
  const sides = [Math.min(SIDES_PX[0], longer)];
  if (longer > 1.5 * SIDES_PX[0]) sides.push(Math.min(SIDES_PX[1], longer));
  const rows = [];
  for (const side of sides) rows.push(...(await lookAt(image, side / longer, run)));
  return dropDoubles(rows);
}

async function lookAt(image, scale, run) {
  const width = Math.max(1, roundHalfEven(image.width * scale));
  const height = Math.max(1, roundHalfEven(image.height * scale));
  const rows = await detectRows(scale < 1 ? shrinkArea(image, width, height) : image, run);
  for (const row of rows) for (let i = 0; i < CONFIDENCE; i++) row[i] = row[i] / scale;
  return rows;
}

async function lookCloser(image, run) {
  const scale = Math.min(1, CLOSER_PX / Math.max(image.width, image.height));
  const side = roundHalfEven(SIDES_PX[1] / scale);
  const step = roundHalfEven((SIDES_PX[1] - TILE_OVERLAP_PX) / scale);
  const rows = [];
  for (const top of tileStarts(image.height, side, step)) {
    for (const left of tileStarts(image.width, side, step)) {
      const [right, bottom] = [Math.min(left + side, image.width), Math.min(top + side, image.height)];
      const found = await lookAt(cutOut(image, left, top, right, bottom), scale, run);
      rows.push(...found.map((row) => moveRow(row, left, top)));
    }
  }
  return dropDoubles(rows.filter((row) => row[CONFIDENCE] >= CLOSER_THRESHOLD));
}

async function lookWithBorder(image, run) {
  const pad = Math.floor(Math.max(image.width, image.height) / 3);
  const rows = await lookTwice(withBorder(image, pad), run);
  return rows.map((row) => moveRow(row, -pad, -pad));
}

/** Tell whether the picture lies on its side or upside down: what was found upright is then no face. */
async function isTurned(rows, image, run) {
  const surest = rows.length ? Math.max(...rows.map((row) => row[CONFIDENCE])) : 1;
  if (surest >= CONVINCING) return false;
  for (const turns of [2, 1, 3]) {
    const others = await lookTwice(turn(image, turns), run);
    if (others.some((row) => row[CONFIDENCE] >= surest + TURNED_MARGIN)) return true;
  }
  return false;
}

function mayHoldSmallFaces(rows, { width, height }) {
  const longer = Math.max(width, height);
  const largest = rows.reduce((most, row) => Math.max(most, row[2], row[3]), 0);
  return longer > 1.5 * SIDES_PX[1] && (largest * SIDES_PX[1]) / longer < SMALL_PX;
}

function tileStarts(length, side, step) {
  const last = Math.max(0, length - side);
  const starts = [];
  for (let start = 0; start < last; start += step) starts.push(start);
  return [...starts, last];
}

function addNew(rows, more) {
  const firm = rows.map((row) => row.slice());
  for (const row of firm) row[CONFIDENCE] += 1; // those found before win
  const kept = dropDoubles([...firm, ...more]);
  for (const row of kept) if (row[CONFIDENCE] > 1) row[CONFIDENCE] -= 1;
  return kept;
}

function moveRow(row, dx, dy) {
  row[0] += dx;
  row[1] += dy;
  for (let i = 4; i < CONFIDENCE; i += 2) {
    row[i] += dx;
    row[i + 1] += dy;
  }
  return row;
}

function toFace(row, { width, height }) {
  const [x, y, w, h] = row;
  return {
    box_xyxy: [Math.max(x, 0), Math.max(y, 0), Math.min(x + w, width), Math.min(y + h, height)],
    landmarks_xy: [0, 1, 2, 3, 4].map((i) => [row[4 + 2 * i], row[5 + 2 * i]]),
    confidence: Math.min(1, row[CONFIDENCE]),
    score: null,
    logit: null,
    label: null,
  };
}

function area([x1, y1, x2, y2]) {
  return Math.max(0, x2 - x1) * Math.max(0, y2 - y1);
}

async function detectRows(image, run) {
  const last = STRIDES[STRIDES.length - 1];
  const [height, width] = [Math.ceil(image.height / last) * last, Math.ceil(image.width / last) * last];
  const maps = await run(toPlanes(image, height, width), height, width);
  const rows = STRIDES.flatMap((stride) => decodeMap(maps, stride, width / stride));
  if (rows.length < 2) return rows;
  const boxes = rows.map((row) => [0, 1, 2, 3].map((i) => Math.trunc(row[i]))); // OpenCV compares whole pixels
  return suppress(boxes, rows.map((row) => row[CONFIDENCE]), FACE_THRESHOLD)
    .slice(0, MOST_FACES)
    .map((i) => rows[i]);
}

/** Lay out a picture as [1, 3, height, width] BGR, black below and to the right of it. */
function toPlanes({ data, width: columns, height: rows, channels }, height, width) {
  const places = height * width;
  const planes = new Float32Array(3 * places);
  for (let y = 0, from = 0; y < rows; y++) {
    for (let x = 0, at = y * width; x < columns; x++, at++, from += channels) {
      planes[at] = data[from + 2];
      planes[at + places] = data[from + 1];
      planes[at + 2 * places] = data[from];
    }
  }
  return planes;
}

function decodeMap(maps, stride, columns) {
  const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((name) => maps[`${name}_${stride}`]);
  const rows = [];
  for (let place = 0; place < cls.length; place++) {
    const score = Math.fround(Math.sqrt(Math.fround(clamp01(cls[place]) * clamp01(obj[place]))));
    if (!(score >= FACE_THRESHOLD)) continue;
    const [x, y] = [place % columns, Math.floor(place / columns)];
    const [w, h] = [2, 3].map((i) => Math.fround(Math.fround(Math.exp(bbox[4 * place + i])) * stride));
    const row = new Float32Array(15);
    row[0] = Math.fround(Math.fround(x + bbox[4 * place]) * stride) - w / 2;
    row[1] = Math.fround(Math.fround(y + bbox[4 * place + 1]) * stride) - h / 2;
    row[2] = w;
    row[3] = h;
    for (let i = 0; i < 10; i++) row[4 + i] = Math.fround(kps[10 * place + i] + (i % 2 ? y : x)) * stride;
    row[CONFIDENCE] = score;
    rows.push(row);
  }
  return rows;
}

function clamp01(value) {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}

/** Keep the surest of rows that overlap, the surest first. */
function dropDoubles(rows) {
  return suppress(rows, rows.map((row) => row[CONFIDENCE]), 0).map((i) => rows[i]);
}

/** Non-maximum suppression as OpenCV's `NMSBoxes`: indices of the boxes (x, y, width, height) that remain. */
function suppress(boxes, scores, threshold) {
  const order = scores.map((_, i) => i).filter((i) => scores[i] > threshold);
  order.sort((a, b) => scores[b] - scores[a]);
  const kept = [];
  for (const i of order) if (kept.every((k) => shared(boxes[i], boxes[k]) <= OVERLAP)) kept.push(i);
  return kept;
}

function shared(a, b) {
  const width = Math.max(0, Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]));
  const both = width * height;
  const sum = a[2] * a[3] + b[2] * b[3];
  return sum <= Number.EPSILON ? 1 : Math.fround(both / (sum - both));
}

/** Shrink a picture as OpenCV's `INTER_AREA` does, in its order of summation and its precision. */
export function shrinkArea(image, width, height) {
  const rgb = toRgb(image);
  if (rgb.width === width && rgb.height === height) return rgb;
  const [scaleX, scaleY] = [1 / (width / rgb.width), 1 / (height / rgb.height)];
  const isWhole = (scale) => Math.abs(scale - roundHalfEven(scale)) < Number.EPSILON;
  if (isWhole(scaleX) && isWhole(scaleY)) {
    return shrinkWhole(rgb, width, height, roundHalfEven(scaleX), roundHalfEven(scaleY));
  }
  return shrinkShares(rgb, width, height, areaShares(rgb.width, width, scaleX), areaShares(rgb.height, height, scaleY));
}

function shrinkWhole({ data, width }, columns, rows, scaleX, scaleY) {
  const result = new Uint8ClampedArray(columns * rows * 3); // rounds a half to the even number, as OpenCV does
  const isFour = scaleX === 2 && scaleY === 2;
  const inverse = Math.fround(1 / (scaleX * scaleY));
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let j = 0; j < scaleY; j++) {
          const from = ((y * scaleY + j) * width + x * scaleX) * 3 + c;
          for (let i = 0; i < scaleX; i++) sum += data[from + 3 * i];
        }
        result[at++] = isFour ? (sum + 2) >> 2 : Math.fround(sum * inverse);
      }
    }
  }
  return { data: new Uint8Array(result.buffer), width: columns, height: rows, channels: 3 };
}

/** Work out which pixels each pixel of the result covers, and with what share. */
function areaShares(length, size, scale) {
  return Array.from({ length: size }, (_, i) => {
    const start = i * scale;
    const end = start + scale;
    const cell = Math.min(scale, length - start);
    const last = Math.min(Math.floor(end), length - 1);
    const first = Math.min(Math.ceil(start), last);
    const [places, shares] = [[], []];
    const add = (place, share) => (places.push(place), shares.push(Math.fround(share)));
    if (first - start > 1e-3) add(first - 1, (first - start) / cell);
    for (let place = first; place < last; place++) add(place, 1 / cell);
    if (end - last > 1e-3) add(last, Math.min(Math.min(end - last, 1), cell) / cell);
    return { places, shares };
  });
}

function shrinkShares({ data, width }, columns, rows, across, down) {
  const result = new Uint8ClampedArray(columns * rows * 3); // rounds a half to the even number, as OpenCV does
  const row = columns * 3;
  const [line, sum] = [new Float32Array(row), new Float32Array(row)];
  const starts = new Int32Array(columns + 1);
  across.forEach(({ places }, x) => (starts[x + 1] = starts[x] + places.length));
  const places = Int32Array.from(across.flatMap((cell) => cell.places.map((place) => 3 * place)));
  const shares = Float32Array.from(across.flatMap((cell) => cell.shares));
  for (let y = 0; y < rows; y++) {
    const { places: lines, shares: weights } = down[y];
    sum.fill(0);
    for (let k = 0; k < lines.length; k++) {
      sumLine(data, lines[k] * width * 3, line, starts, places, shares);
      addLine(sum, line, Math.fround(weights[k]));
    }
    result.set(sum, y * row);
  }
  return { data: new Uint8Array(result.buffer), width: columns, height: rows, channels: 3 };
}

function addLine(sum, line, weight) {
  for (let x = 0; x < sum.length; x++) sum[x] = Math.fround(sum[x] + Math.fround(weight * line[x]));
}

function sumLine(data, row, line, starts, places, shares) {
  const columns = starts.length - 1;
  for (let x = 0, at = 0; x < columns; x++, at += 3) {
    let r = Math.fround(0);
    let g = Math.fround(0);
    let b = Math.fround(0);
    const end = starts[x + 1];
    for (let k = starts[x]; k < end; k++) {
      const from = row + places[k];
      const share = shares[k];
      r = Math.fround(r + Math.fround(data[from] * share));
      g = Math.fround(g + Math.fround(data[from + 1] * share));
      b = Math.fround(b + Math.fround(data[from + 2] * share));
    }
    line[at] = r;
    line[at + 1] = g;
    line[at + 2] = b;
  }
}

function withBorder(image, pad) {
  const { data, width, height, channels } = image;
  const [columns, rows] = [width + 2 * pad, height + 2 * pad];
  const result = new Uint8Array(columns * rows * 3);
  for (let y = 0, at = 0; y < rows; y++) {
    const row = Math.min(Math.max(y - pad, 0), height - 1) * width;
    for (let x = 0; x < columns; x++) {
      const from = (row + Math.min(Math.max(x - pad, 0), width - 1)) * channels;
      result[at++] = data[from];
      result[at++] = data[from + 1];
      result[at++] = data[from + 2];
    }
  }
  return { data: result, width: columns, height: rows, channels: 3 };
}

/** Turn a picture counterclockwise by quarters, as NumPy's `rot90`. */
function turn(image, quarters) {
  const { data, width, height, channels } = image;
  const isUpsideDown = quarters === 2;
  const [columns, rows] = isUpsideDown ? [width, height] : [height, width];
  const result = new Uint8Array(columns * rows * 3);
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const column = isUpsideDown ? width - 1 - x : quarters === 1 ? width - 1 - y : y;
      const row = isUpsideDown ? height - 1 - y : quarters === 1 ? x : height - 1 - x;
      const from = (row * width + column) * channels;
      result[at++] = data[from];
      result[at++] = data[from + 1];
      result[at++] = data[from + 2];
    }
  }
  return { data: result, width: columns, height: rows, channels: 3 };
}

// ---------------------------------------------------------------- a picture becomes crops (predict/look.py)

const OVERSAMPLING = 2; // a crop out of a reduced JPEG has at least this many times the model's pixels along its side

/**
 * Find the faces of a picture and cut out what the model will see.
 *
 * A large JPEG is reduced to 1/2, 1/4 or 1/8 as long as that loses nothing, as Python decodes it.
 *
 * @returns `{ faces, crops, squares }`, the boxes in pixels of the original.
 */
export async function lookAtPicture(image, preprocessing, run, { faces: choice = "auto" } = {}) {
  const size = [image.height, image.width];
  if (choice === "none" || preprocessing.finder === "none") return lookAtAll(image, preprocessing);
  let picture = reduced(image, SIDES_PX[1]);
  let faces = await findFaces(picture, run, { border: choice !== "all" });
  if (choice === "largest") faces = faces.slice(0, 1);
  faces = faces.map((face) => scaledFace(face, image.width / picture.width, image.height / picture.height));
  const squares = faces.map((face) => cropSquare(face.box_xyxy, preprocessing.margin, size));
  const smallest = Math.min(...squares.map(([left, , right]) => right - left));
  const needed = Math.ceil((OVERSAMPLING * preprocessing.size_px * Math.min(...size)) / smallest);
  if (picture !== image && Math.min(picture.width, picture.height) < needed) picture = reduced(image, needed);
  const [scaleX, scaleY] = [picture.width / image.width, picture.height / image.height];
  const crops = faces.map(({ box_xyxy: [x1, y1, x2, y2] }) =>
    cropFace(picture, [x1 * scaleX, y1 * scaleY, x2 * scaleX, y2 * scaleY], preprocessing),
  );
  return { faces, crops, squares };
}

function lookAtAll(image, preprocessing) {
  const picture = reduced(image, OVERSAMPLING * preprocessing.size_px);
  const box = [0, 0, image.width, image.height];
  const face = { box_xyxy: box, landmarks_xy: [], confidence: 1, score: null, logit: null, label: null };
  const crop = resample(picture, null, preprocessing.size_px, preprocessing.interpolation);
  return { faces: [face], crops: [crop], squares: [box] };
}

/** Reduce a JPEG as far as its shorter side keeps so many pixels; other pictures stay as they are. */
function reduced(image, minSidePx) {
  if (!image.isJpeg) return image;
  const most = Math.min(Math.floor(image.width / minSidePx), Math.floor(image.height / minSidePx));
  const factor = [8, 4, 2].find((step) => most >= step) ?? 1;
  return factor === 1 ? image : averaged(image, factor);
}

/** Average blocks of pixels; those at the right and lower edge may be smaller. */
function averaged({ data, width, height, channels }, factor) {
  const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const result = new Uint8Array(columns * rows * 3);
  for (let y = 0, at = 0; y < rows; y++) {
    const bottom = Math.min((y + 1) * factor, height);
    for (let x = 0; x < columns; x++, at += 3) {
      const right = Math.min((x + 1) * factor, width);
      let r = 0;
      let g = 0;
      let b = 0;
      for (let j = y * factor; j < bottom; j++) {
        for (let from = (j * width + x * factor) * channels, end = (j * width + right) * channels; from < end; from += channels) {
          r += data[from];
          g += data[from + 1];
          b += data[from + 2];
        }
      }
      const count = (bottom - y * factor) * (right - x * factor);
      result[at] = (r + (count >> 1)) / count;
      result[at + 1] = (g + (count >> 1)) / count;
      result[at + 2] = (b + (count >> 1)) / count;
    }
  }
  return { data: result, width: columns, height: rows, channels: 3 };
}

function scaledFace(face, scaleX, scaleY) {
  if (scaleX === 1 && scaleY === 1) return face;
  const [x1, y1, x2, y2] = face.box_xyxy;
  return {
    ...face,
    box_xyxy: [x1 * scaleX, y1 * scaleY, x2 * scaleX, y2 * scaleY],
    landmarks_xy: face.landmarks_xy.map(([x, y]) => [x * scaleX, y * scaleY]),
  };
}

// ---------------------------------------------------------------- metadata (provenance/)

const MOST_BLOCKS = 512;
const SEARCHED_CHARACTERS = 2 ** 18;
const MOST_TEXT_BYTES = 2 ** 20;

/**
 * Read the strongest traces of a JPEG, PNG or WebP file: generators, editors, camera, IPTC source type, C2PA.
 *
 * The findings are statements of the file and never enter the score. Python's `inspect_metadata` finds more: it reads
 * more containers, the structure of JPEGs, and what a C2PA manifest says.
 *
 * @param {Uint8Array} bytes The file.
 * @param traces `traces` of model.json: the names and patterns that Python looks for.
 * @returns As Python's `MetadataFindings.to_dict()`.
 */
export async function inspectMetadata(bytes, traces, { name = "<bytes>" } = {}) {
  const file = await readBlocks(bytes);
  const findings = file.blocks.flatMap((block) => describeBlock(block, traces));
  if (!file.blocks.length) {
    findings.push({
      code: "no-metadata",
      what: "no EXIF, XMP, IPTC, text or C2PA",
      segment: "file",
      offset: null,
      strength: "neutral",
      points_to: null,
      not_proof: "anything: platforms, messengers and screenshots remove metadata from most pictures",
      value: "",
    });
  }
  const order = ["strong", "moderate", "weak", "neutral"];
  const key = (finding) => finding.offset ?? Infinity;
  findings.sort((a, b) => order.indexOf(a.strength) - order.indexOf(b.strength) || key(a) - key(b));
  return {
    name,
    format: file.format,
    size_hw: file.size_hw,
    file_bytes: bytes.length,
    c2pa: file.blocks.some((block) => block.kind === "c2pa") ? "present, not verified" : "absent",
    strongest: findings.length ? findings[0].strength : "neutral",
    findings,
  };
}

/** Tell the format and the size in pixels from the first bytes of a file; nulls where they are not known. */
export function sniff(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.byteLength >= 24 && latin1(bytes, 0, 8) === "\x89PNG\r\n\x1a\n") {
    return { format: "PNG", size_hw: [view.getUint32(20), view.getUint32(16)] };
  }
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return { format: "JPEG", size_hw: jpegSize(bytes, view) };
  if (latin1(bytes, 0, 4) === "RIFF" && latin1(bytes, 8, 12) === "WEBP") {
    return { format: "WEBP", size_hw: webpSize(bytes, view) };
  }
  if (latin1(bytes, 0, 4) === "GIF8" && view.byteLength >= 10) {
    return { format: "GIF", size_hw: [view.getUint16(8, true), view.getUint16(6, true)] };
  }
  if (latin1(bytes, 4, 8) === "ftyp") {
    return { format: /^(avif|avis)/.test(latin1(bytes, 8, 12)) ? "AVIF" : "HEIF", size_hw: null };
  }
  return { format: null, size_hw: null };
}

function jpegSize(bytes, view) {
  for (const { marker, at } of jpegSegments(bytes, view)) {
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame && at + 9 <= view.byteLength) return [view.getUint16(at + 5), view.getUint16(at + 7)];
  }
  return null;
}

function webpSize(bytes, view) {
  const kind = latin1(bytes, 12, 16);
  if (view.byteLength < 30) return null;
  const three = (at) => (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16)) + 1;
  if (kind === "VP8X") return [three(27), three(24)];
  if (kind === "VP8 ") return [view.getUint16(28, true) & 0x3fff, view.getUint16(26, true) & 0x3fff];
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return [((bits >>> 14) & 0x3fff) + 1, (bits & 0x3fff) + 1];
  }
  return null;
}

/** Yield the segments before the coded data of a JPEG: marker, place of the 0xFF, body. */
function* jpegSegments(bytes, view) {
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return;
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += 2;
      continue;
    }
    const length = view.getUint16(at + 2);
    if (length < 2 || at + 2 + length > bytes.length) return;
    yield { marker, at, body: bytes.subarray(at + 4, at + 2 + length) };
    at += 2 + length;
  }
}

async function readBlocks(bytes) {
  const { format, size_hw: size } = sniff(bytes);
  const readers = { JPEG: readJpeg, PNG: readPng, WEBP: readWebp };
  const blocks = format in readers ? await readers[format](bytes) : [];
  return { format: format ?? "unknown", size_hw: size, blocks: blocks.slice(0, MOST_BLOCKS) };
}

function readJpeg(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks = [];
  const manifest = [];
  for (const { marker, at, body } of jpegSegments(bytes, view)) {
    const begins = (text) => latin1(body, 0, text.length) === text;
    const add = (kind, segment, header) => blocks.push({ kind, segment, offset: at, payload: body.subarray(header) });
    if (marker === 0xe1 && begins("Exif\0\0")) add("exif", "APP1 EXIF", 6);
    else if (marker === 0xe1 && begins("http://ns.adobe.com/xap/1.0/\0")) add("xmp", "APP1 XMP", 29);
    else if (marker === 0xed && begins("Photoshop 3.0\0")) add("photoshop", "APP13 Photoshop", 14);
    else if (marker === 0xeb && begins("JP")) manifest.push({ at, body: body.subarray(8) });
    else if (marker === 0xfe) blocks.push({ ...textBlock("COM", at, "comment", body) });
  }
  const payload = joined(manifest.map((part) => part.body));
  if (latin1(payload, 0, payload.length).includes("c2pa")) {
    blocks.push({ kind: "c2pa", segment: "APP11 JUMBF", offset: manifest[0].at, payload });
  }
  return blocks;
}

async function readPng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const [length, kind] = [view.getUint32(at), latin1(bytes, at + 4, at + 8)];
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IEND" || body.length < length) break;
    if (kind === "eXIf") {
      const header = latin1(body, 0, 6) === "Exif\0\0" ? 6 : 0;
      blocks.push({ kind: "exif", segment: "PNG eXIf", offset: at, payload: body.subarray(header) });
    } else if (kind === "caBX") blocks.push({ kind: "c2pa", segment: "PNG caBX", offset: at, payload: body });
    else if (["tEXt", "zTXt", "iTXt"].includes(kind)) {
      const block = await pngText(kind, at, body);
      if (block) blocks.push(block);
    }
    at += 12 + length;
  }
  return blocks;
}

async function pngText(kind, offset, body) {
  const [key, rest] = split(body);
  let text = rest;
  if (kind === "zTXt") text = await inflate(rest.subarray(1));
  if (kind === "iTXt") {
    text = split(split(rest.subarray(2))[1])[1]; // behind two flags, the language and the translated keyword
    if (rest[0] === 1) text = await inflate(text);
  }
  if (!text) return null;
  const name = latin1(key, 0, key.length);
  if (name === "XML:com.adobe.xmp") return { kind: "xmp", segment: `PNG ${kind} XMP`, offset, payload: text };
  return kind === "iTXt"
    ? textBlock(`PNG ${kind}`, offset, name, text)
    : { kind: "text", segment: `PNG ${kind}`, offset, key: name, text: latin1(text, 0, text.length) };
}

function readWebp(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kinds = { EXIF: ["exif", "WebP EXIF"], "XMP ": ["xmp", "WebP XMP"], C2PA: ["c2pa", "WebP C2PA"] };
  const blocks = [];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [name, length] = [latin1(bytes, at, at + 4), view.getUint32(at + 4, true)];
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (body.length < length) break;
    if (name in kinds) {
      const header = name === "EXIF" && latin1(body, 0, 6) === "Exif\0\0" ? 6 : 0;
      blocks.push({ kind: kinds[name][0], segment: kinds[name][1], offset: at, payload: body.subarray(header) });
    }
    at += 8 + length + (length & 1);
  }
  return blocks;
}

function textBlock(segment, offset, key, payload) {
  return { kind: "text", segment, offset, key, text: new TextDecoder().decode(payload) };
}

function split(bytes) {
  const at = bytes.indexOf(0);
  return at < 0 ? [bytes, bytes.subarray(bytes.length)] : [bytes.subarray(0, at), bytes.subarray(at + 1)];
}

/** Decompress zlib, but never more than `MOST_TEXT_BYTES`; null where it is damaged or longer. */
async function inflate(packed) {
  try {
    return await collect(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")), MOST_TEXT_BYTES);
  } catch {
    return null;
  }
}

async function collect(stream, most = Infinity) {
  const parts = [];
  let length = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return joined(parts);
    parts.push(value);
    length += value.length;
    if (length > most) {
      await reader.cancel();
      throw new RangeError(`more than ${most} bytes`);
    }
  }
}

function joined(parts) {
  const result = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

function latin1(bytes, start, end) {
  let text = "";
  for (let at = start; at < Math.min(end, bytes.length); at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, Math.min(at + 4096, end)));
  }
  return text;
}

function describeBlock(block, traces) {
  const describers = { text: describeTexts, exif: describeExif, xmp: describeXmp, c2pa: describeC2pa, photoshop: describeIptc };
  return describers[block.kind](block, traces);
}

function finding(block, code, what, notProof, { strength = "neutral", pointsTo = null, value = "" } = {}) {
  return {
    code,
    what,
    segment: block.segment,
    offset: block.offset,
    strength,
    points_to: pointsTo,
    not_proof: notProof,
    value: shorten(value, 200),
  };
}

function shorten(text, length) {
  const line = text.slice(0, 4 * length).replace(/[\p{C}\s]+/gu, " ").trim();
  return line.length <= length ? line : `${line.slice(0, length - 3)}...`;
}

function describeTexts(block, traces) {
  return describeText(block, block.key, block.text, traces);
}

function describeText(block, key, text, traces) {
  const searched = text.slice(0, SEARCHED_CHARACTERS);
  const rule = traces.rules.find(
    (candidate) =>
      new RegExp(`^(?:${candidate.key})$`, "is").test(key.slice(0, 100)) &&
      candidate.texts.every((pattern) => new RegExp(pattern).test(searched)),
  );
  if (rule) {
    const what = `${rule.what} of ${rule.generator} in the field ${key.slice(0, 60)}`;
    return [finding(block, "generator", what, traces.rule_not_proof, { strength: rule.strength, pointsTo: "generated", value: text })];
  }
  const isCredit = ["source", "creator tool", "photoshop:credit"].includes(key.toLowerCase());
  const isSoftware = key.toLowerCase() === "software" || (isCredit && generatorIn(text, traces));
  return isSoftware ? describeSoftware(block, text, `the field ${key}`, traces) : [];
}

function describeSoftware(block, text, field, traces) {
  const generator = generatorIn(text, traces);
  if (generator) {
    const options = { strength: "strong", pointsTo: "generated", value: text };
    return [finding(block, "generator", `${field} names the generator ${generator}`, traces.generator_not_proof, options)];
  }
  for (const { names, strength, kind } of traces.editors) {
    const name = names.find((candidate) => contains(text, candidate));
    if (name) {
      const options = { strength, pointsTo: "edited", value: text };
      return [finding(block, "editor", `${field} names ${name}, ${kind}`, traces.editor_not_proof, options)];
    }
  }
  const what = `${field} names a program that is not in the lists of editors and generators`;
  return text ? [finding(block, "software", what, "anything about the picture", { value: text })] : [];
}

function generatorIn(text, traces) {
  return Object.entries(traces.generators).find(([word]) => contains(text, word))?.[1] ?? "";
}

function contains(text, name) {
  const literal = name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<!\\w)${literal}(?![A-Za-z])`, "i").test(text.slice(0, 2000));
}

function describeExif(block, traces) {
  const { main, exif, hasPlace } = readTiff(block.payload);
  const text = (number, from = main) => (from.get(number)?.text ?? "").trim();
  const [description, make, model] = [0x010e, 0x010f, 0x0110].map((number) => text(number));
  const comment = decodeComment(exif.get(0x9286)?.bytes ?? new Uint8Array());
  const fields = { ImageDescription: description, Make: make, Model: model, UserComment: comment };
  const findings = Object.entries(fields).flatMap(([key, value]) => (value ? describeText(block, key, value, traces) : []));
  findings.push(...describeSignature(block, description, text(0x013b)));
  if (text(0x0131)) findings.push(...describeSoftware(block, text(0x0131), "EXIF Software", traces));
  const isGraph = /"class_type"|"nodes"/.test(make + model);
  if (generatorIn(make, traces)) findings.push(...describeSoftware(block, make, "EXIF Make", traces));
  else if ((make || model) && !isGraph) findings.push(...describeCamera(block, make, model, text(0xa434, exif), exif));
  if (hasPlace) findings.push(finding(block, "gps", "GPS data are present", "that the picture was taken there"));
  return findings;
}

function describeSignature(block, description, artist) {
  const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
  if (!/^Signature: [A-Za-z0-9+/=]{64,}$/.test(description) || !uuid.test(artist)) return [];
  const what = "the pair of fields that Grok writes: a signature as ImageDescription, a UUID as Artist";
  const notProof = "that xAI signed it: the key to check the signature is not public";
  return [finding(block, "generator", what, notProof, { strength: "strong", pointsTo: "generated", value: artist })];
}

function describeCamera(block, make, model, lens, exif) {
  const exposures = { 0x829a: "exposure time", 0x829d: "aperture", 0x8827: "sensitivity", 0x920a: "focal length" };
  const recorded = Object.keys(exposures).filter((number) => exif.has(Number(number)));
  const name = [...new Set([...make.split(/\s+/), ...model.split(/\s+/)])].filter(Boolean).join(" ");
  const details =
    (lens ? ` with ${lens}` : "") +
    (recorded.length ? `; ${recorded.map((number) => exposures[number]).join(", ")} recorded` : "") +
    (exif.has(0x927c) ? "; with the maker's own notes" : "");
  const anybody = "that it is true: anybody can write or remove this field";
  const options = { strength: "weak", pointsTo: "captured", value: name };
  const findings = [finding(block, "camera", `EXIF names the camera ${name}${details}`, anybody, options)];
  if (!recorded.length) {
    const what = "EXIF names a camera, but no exposure time, aperture, sensitivity or focal length";
    const notProof = "that the camera is invented: some programs keep only a few fields";
    findings.push(finding(block, "no-exposure", what, notProof, { strength: "weak", pointsTo: "edited" }));
  }
  return findings;
}

/** Read the tags of the first directory of a TIFF structure and of its EXIF directory. */
function readTiff(bytes) {
  const nothing = { main: new Map(), exif: new Map(), hasPlace: false };
  const little = latin1(bytes, 0, 2) === "II";
  if (bytes.length < 8 || (!little && latin1(bytes, 0, 2) !== "MM")) return nothing;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const main = readDirectory(bytes, view, view.getUint32(4, little), little);
  const at = (number) => main.get(number)?.number ?? 0;
  const exif = at(0x8769) ? readDirectory(bytes, view, at(0x8769), little) : new Map();
  return { main, exif, hasPlace: at(0x8825) > 0 && readDirectory(bytes, view, at(0x8825), little).size > 0 };
}

function readDirectory(bytes, view, start, little) {
  const tags = new Map();
  if (start + 2 > bytes.length) return tags;
  const count = view.getUint16(start, little);
  const sizes = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];
  for (let i = 0, at = start + 2; i < count && at + 12 <= bytes.length; i++, at += 12) {
    const [number, kind, length] = [view.getUint16(at, little), view.getUint16(at + 2, little), view.getUint32(at + 4, little)];
    const size = (sizes[kind] ?? 0) * length;
    const from = size > 4 ? view.getUint32(at + 8, little) : at + 8;
    if (!size || from + size > bytes.length) continue;
    const body = bytes.subarray(from, from + size);
    const whole = kind === 4 || kind === 13 ? view.getUint32(from, little) : kind === 3 ? view.getUint16(from, little) : undefined;
    tags.set(number, { bytes: body, number: whole, text: kind === 2 ? new TextDecoder().decode(split(body)[0]) : undefined });
  }
  return tags;
}

function decodeComment(bytes) {
  const [charset, text] = [latin1(bytes, 0, 8), bytes.subarray(8)];
  if (!charset.startsWith("UNICODE")) {
    const isPlain = charset.startsWith("ASCII") || charset.startsWith("\0\0\0\0\0");
    return new TextDecoder().decode(isPlain ? text : bytes).replace(/^[\0 ]+|[\0 ]+$/g, "");
  }
  const zeros = (first) => text.subarray(0, 200).filter((value, i) => i % 2 === first && value === 0).length;
  const little = (text[0] === 0xff && text[1] === 0xfe) || zeros(0) < zeros(1);
  return new TextDecoder(little ? "utf-16le" : "utf-16be").decode(text).replace(/^[\0 \ufeff]+|[\0 ]+$/g, "");
}

const XMP_TEXTS = { description: "dc:description", UserComment: "exif:UserComment", Credit: "photoshop:Credit", AIGC: "TC260:AIGC" };

function describeXmp(block, traces) {
  const packet = new TextDecoder().decode(block.payload.subarray(0, 4 * MOST_TEXT_BYTES));
  const findings = [];
  for (const type of xmpValues(packet, "DigitalSourceType")) findings.push(describeSourceType(block, type, traces));
  for (const name of ["AISystemUsed", "AISystemVersionUsed", "AIPromptInformation", "AIPromptWriterName"]) {
    const [value] = xmpValues(packet, name);
    if (!value) continue;
    const what = `IPTC's field ${name} names an AI system or its prompt: ${shorten(value, 200)}`;
    const options = { strength: "strong", pointsTo: "generated", value };
    findings.push(finding(block, "ai-fields", what, traces.label_not_proof, options));
  }
  for (const tool of new Set(["CreatorTool", "softwareAgent"].flatMap((name) => xmpValues(packet, name)))) {
    findings.push(...describeSoftware(block, tool, "XMP CreatorTool or history", traces));
  }
  for (const [local, key] of Object.entries(XMP_TEXTS)) {
    findings.push(...xmpValues(packet, local).flatMap((value) => describeText(block, key, value, traces)));
  }
  return findings;
}

/** Find the values of a property, as attributes and as elements, whatever prefix it has. */
function xmpValues(packet, name) {
  const attribute = new RegExp(`[\\s:]${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, "g");
  const element = new RegExp(`<(?:[\\w.-]+:)?${name}(?:\\s[^>]*)?>([^]*?)</(?:[\\w.-]+:)?${name}>`, "g");
  const values = [...packet.matchAll(attribute)].map((match) => match[1] ?? match[2]);
  for (const match of packet.matchAll(element)) {
    values.push(...match[1].split(/<[^>]*>/));
    const resource = /rdf:resource\s*=\s*"([^"]*)"/.exec(match[0]);
    if (resource) values.push(resource[1]);
  }
  return [...new Set(values.map((value) => unescapeXml(value).trim()).filter(Boolean))];
}

function unescapeXml(text) {
  const names = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return text.replace(/&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-f]{1,6}));/gi, (whole, name, decimal, hex) => {
    if (name) return names[name.toLowerCase()];
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

function describeSourceType(block, type, traces) {
  const code = type.replace(/\/+$/, "").split("/").pop();
  const [meaning, strength, pointsTo] = traces.source_types[code] ?? ["a code that IPTC does not list", "neutral", null];
  const what = `IPTC DigitalSourceType ${shorten(code, 60)}: ${meaning}`;
  return finding(block, "source-type", what, traces.label_not_proof, { strength, pointsTo, value: type });
}

function describeC2pa(block, traces) {
  const text = latin1(block.payload, 0, block.payload.length);
  const what = "C2PA manifest (present, not verified here; Python's deepfake-detect reads it in full)";
  const findings = [finding(block, "c2pa", what, traces.c2pa_not_proof)];
  const codes = [...text.matchAll(/newscodes\/digitalsourcetype\/(\w{3,40})/g)].map((match) => match[1]);
  for (const code of new Set(codes)) {
    const known = Object.keys(traces.source_types).filter((name) => code.startsWith(name)); // CBOR goes on behind it
    const name = known.sort((a, b) => b.length - a.length)[0];
    if (!name) continue;
    const [meaning, strength, pointsTo] = traces.source_types[name];
    const options = { strength: strength === "strong" ? "moderate" : strength, pointsTo, value: name };
    const words = `a C2PA manifest in the file says of the picture or of a part: ${meaning} (${name})`;
    findings.push(finding(block, "c2pa-source-type", words, "that it is true: it is not verified", options));
  }
  return findings;
}

function describeIptc(block, traces) {
  const { payload } = block;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const findings = [];
  for (let at = 0, count = 0; at + 12 <= payload.length && latin1(payload, at, at + 4) === "8BIM" && count < 4096; count++) {
    const number = view.getUint16(at + 4);
    const body = at + 6 + 2 * ((payload[at + 6] + 2) >> 1); // a name, padded to an even length
    if (body + 4 > payload.length) break;
    const length = view.getUint32(body);
    if (number === 0x0404) findings.push(...describeRecords(block, payload.subarray(body + 4, body + 4 + length), traces));
    at = body + 4 + length + (length & 1);
  }
  return findings;
}

function describeRecords(block, bytes, traces) {
  const findings = [];
  for (let at = 0; at + 5 <= bytes.length && bytes[at] === 0x1c; ) {
    const length = (bytes[at + 3] << 8) | bytes[at + 4];
    if (length & 0x8000) break;
    const text = new TextDecoder().decode(bytes.subarray(at + 5, at + 5 + length)).trim();
    const number = bytes[at + 1] === 2 ? bytes[at + 2] : 0;
    if (number === 65) findings.push(...describeSoftware(block, text, "IPTC originating program", traces));
    else if ([110, 115, 105, 40].includes(number) && generatorIn(text, traces)) {
      findings.push(...describeSoftware(block, text, "IPTC credit, source or headline", traces));
    }
    at += 5 + length;
  }
  return findings;
}

// ---------------------------------------------------------------- opening pictures (the browser decodes)

/**
 * Decode a picture to upright pixels: stored values without colour management, transparency over white.
 *
 * @param source Blob, ArrayBuffer, Uint8Array (a file), ImageData, ImageBitmap, or a picture as described above.
 * @returns `{ data, width, height, channels, isJpeg, bytes }`; `bytes` is null where there is no file.
 */
export async function openPicture(source) {
  if (isPicture(source)) return checkedPicture(source);
  if (typeof ImageBitmap !== "undefined" && source instanceof ImageBitmap) return fromBitmap(source, null, false);
  const bytes = await bytesOf(source);
  if (!bytes.length) throw new DetectorError("image-unreadable", "the picture is empty: 0 bytes");
  const { format, size_hw: size } = sniff(bytes);
  if (size) checkSize(size[1], size[0]);
  if (typeof createImageBitmap === "undefined") {
    throw new DetectorError("image-unreadable", "this program decodes no pictures; pass pixels { data, width, height, channels }");
  }
  const bitmap = await decodeBitmap(bytes, format);
  return fromBitmap(bitmap, bytes, format === "JPEG");
}

function isPicture(source) {
  return Boolean(source) && source.data !== undefined && source.width !== undefined && source.height !== undefined;
}

function checkedPicture({ data, width, height, channels = 4, isJpeg = false }) {
  if (!Number.isInteger(width) || !Number.isInteger(height) || data.length !== width * height * channels || !data.length) {
    const found = `${data.length} values for ${width} x ${height} pixels of ${channels} channels`;
    throw new DetectorError("image-unreadable", `${found}; expected width * height * channels of them`);
  }
  checkSize(width, height);
  return { data, width, height, channels, isJpeg, bytes: null };
}

function checkSize(width, height) {
  if (width * height <= MAX_PIXELS) return;
  const megapixels = (count) => `${Math.round(count / 1e6)} megapixels`;
  throw new DetectorError(
    "image-too-large",
    `the picture has ${width} x ${height} pixels, ${megapixels(width * height)}; a page can hold ${megapixels(MAX_PIXELS)}: ` +
      "make it smaller, or use deepfake-detect for Python",
  );
}

async function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (typeof Blob !== "undefined" && source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  throw new DetectorError("image-unreadable", "expected a Blob, bytes, ImageData, ImageBitmap, <img>, <canvas> or <video>");
}

async function decodeBitmap(bytes, format) {
  try {
    const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
    return await createImageBitmap(new Blob([bytes]), options);
  } catch {
    const kind = format ? `a ${format} file that is damaged, or of a kind` : "no picture, or a picture of a kind";
    throw new DetectorError("image-unreadable", `the file is ${kind} that this browser cannot decode; save it as JPEG or PNG`);
  }
}

function fromBitmap(bitmap, bytes, isJpeg) {
  const { width, height } = bitmap;
  try {
    checkSize(width, height);
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4, isJpeg, bytes };
  } catch (error) {
    if (error instanceof DetectorError) throw error;
    throw new DetectorError("image-too-large", `there is not enough memory for ${width} x ${height} pixels: ${error.message}`);
  } finally {
    bitmap.close();
  }
}

// ---------------------------------------------------------------- running the networks

/** Loads the files, runs the networks, and answers; in the thread that it was made in. */
class Engine {
  static async load(base, { device = "auto", threads = null, onProgress = () => {}, read = null, ort = null } = {}) {
    if (!["auto", "wasm", "webgpu"].includes(device)) {
      throw new DetectorError("invalid-option", `device is "${device}", expected "auto", "wasm" or "webgpu"`);
    }
    checkWasm();
    const engine = new Engine();
    engine._read = read ?? ((name, options) => download(new URL(name, base), options));
    engine._manifest = readManifest(await engine._read("model.json", {}));
    engine._runtime = ort ? { ort, version: ort.env?.versions?.web ?? "unknown", backend: "wasm" } : null;
    await engine._start(device, threads, onProgress);
    return engine;
  }

  get manifest() {
    return this._manifest;
  }

  async _start(device, threads, onProgress) {
    const files = this._manifest.files;
    const progress = new Progress(onProgress);
    const wantsGpu = !this._runtime && device !== "wasm" && (await hasWebGpu({ mustBeHardware: device === "auto" }));
    const onRuntime = (gpu) => loadRuntime({ wantsGpu: gpu, mustGpu: device === "webgpu", threads, progress });
    const [detector, finder, runtime] = await Promise.all([
      this._model(files.detector, progress),
      files.finder ? this._model(files.finder, progress) : null,
      this._runtime ?? (wantsGpu && device === "auto" ? onRuntime(true).catch(() => onRuntime(false)) : onRuntime(wantsGpu)),
    ]);
    this._runtime = runtime;
    try {
      await this._openDetector(detector);
    } catch (error) {
      if (runtime.backend !== "webgpu" || device !== "auto") throw error;
      this._runtime = await onRuntime(false); // a driver may fail where the processor does not
      await this._openDetector(detector);
    }
    if (finder) {
      this._finder = await openSession(this._runtime.ort, finder, ["wasm"], files.finder.name);
      expectNames(this._finder, ["input"], ["cls_8", "obj_8", "bbox_8", "kps_8"], files.finder.name);
    }
  }

  async _openDetector(bytes) {
    const { card, outputs, files: { detector: { name } } } = this._manifest;
    const { ort, backend } = this._runtime;
    const providers = backend === "webgpu" ? ["webgpu", "wasm"] : ["wasm"];
    this._detector = await openSession(ort, bytes, providers, name);
    expectNames(this._detector, [this._manifest.input], Object.values(outputs).filter(Boolean), name);
    try {
      await this.forward([new Uint8Array(card.preprocessing.size_px ** 2 * 3)]); // warm, and of the right shape
    } catch (error) {
      throw new DetectorError("model-unknown", `${name} does not take pictures as model.json says (${error.message}); export it again`);
    }
  }

  async _model(file, progress) {
    const bytes = await this._read(file.name, { onProgress: progress.of(file.name, file.bytes) });
    await checkSha256(bytes, file);
    return bytes;
  }

  /** Run the detector on crops. @returns `{ logits, heat }`, the maps of all crops in one array. */
  async forward(crops) {
    const { card, input, outputs } = this._manifest;
    const side = card.preprocessing.size_px;
    const batch = new this._runtime.ort.Tensor("float32", normalise(crops, card.preprocessing), [crops.length, 3, side, side]);
    const results = await this._detector.run({ [input]: batch });
    const logits = results[outputs.logit].data;
    if (logits.length !== crops.length) throw new Error(`${logits.length} logits for ${crops.length} faces`);
    const heat = outputs.heat ? results[outputs.heat] : null;
    return { logits: Array.from(logits), heat: heat ? { data: heat.data, rows: heat.dims[1], columns: heat.dims[2] } : null };
  }

  async find(input, height, width) {
    const results = await this._finder.run({ input: new this._runtime.ort.Tensor("float32", input, [1, 3, height, width]) });
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor.data]));
  }

  async predict(source, { name = "<picture>", faces: choice = "auto", threshold = null, metadata = true } = {}) {
    checkOptions(choice, threshold);
    const started = performance.now();
    const image = await openPicture(source);
    const { card } = this._manifest;
    const look = await lookAtPicture(image, card.preprocessing, (...input) => this.find(...input), { faces: choice });
    const scored = await this._score(look, card, threshold);
    const seconds = (performance.now() - started) / 1000;
    const inspected = metadata && image.bytes ? await inspectMetadata(image.bytes, this._manifest.traces, { name }) : null;
    const input = await fingerprint(image, name);
    return { ...this._compose(image, scored, { name, choice, threshold, seconds }), input, metadata: inspected };
  }

  async _score(look, card, threshold) {
    if (!look.faces.length) return [];
    const { logits, heat } = await this.forward(look.crops);
    return look.faces.map((face, i) => {
      const [score, label] = judge(logits[i], card, threshold);
      const heatOfFace = heat && heatMap(heat, i, look.squares[i], this._manifest.heat);
      return { ...face, score, logit: logits[i], label, heat: heatOfFace };
    });
  }

  _compose(image, scored, { name, choice, threshold, seconds }) {
    const { card } = this._manifest;
    const worst = scored.reduce((most, face) => (most === null || face.score > most.score ? face : most), null);
    return {
      name,
      label: worst ? worst.label : "no-face",
      score: worst ? worst.score : null,
      logit: worst ? worst.logit : null,
      threshold: threshold ?? card.threshold,
      faces: scored,
      size_hw: [image.height, image.width],
      model: `${card.name}@${card.version}`,
      revision: null,
      seconds,
      backend: `onnxruntime-web-${this._runtime.backend}`,
      dtype: "float32",
      error: null,
      settings: { faces: choice, threshold },
    };
  }

  get facts() {
    const { card, preprocessing_sha256: preprocessing, library_version: version } = this._manifest;
    const { backend, threads = 1, version: runtime } = this._runtime;
    return { card, preprocessing, backend, threads, versions: { "deepfake-detect": version, "onnxruntime-web": runtime } };
  }

  async dispose() {
    await Promise.all([this._detector, this._finder].map((session) => session?.release?.()));
  }
}

function checkOptions(choice, threshold) {
  if (!["auto", "all", "largest", "none"].includes(choice)) {
    throw new DetectorError("invalid-option", `faces is "${choice}", expected "auto", "all", "largest" or "none"`);
  }
  if (threshold !== null && !(threshold >= 0 && threshold <= 1)) {
    throw new DetectorError("invalid-option", `threshold is ${threshold}, expected a number from 0 to 1`);
  }
}

/** Cut one face's map out of the batch. */
function heatMap({ data, rows, columns }, index, square, kind) {
  const values = Array.from(data.slice(index * rows * columns, (index + 1) * rows * columns));
  return { kind, values, rows, columns, crop_xyxy: square };
}

async function fingerprint(image, name) {
  const isFile = image.bytes !== null;
  const content = isFile ? image.bytes : toRgb(image).data;
  return { name, kind: isFile ? "file" : "pixels", bytes: content.length, sha256: await sha256(content) };
}

/** @returns The digest in hexadecimal; null where the page is not served over https or localhost. */
async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (value) => value.toString(16).padStart(2, "0")).join("");
}

/** Write JSON as Python's `json.dumps(value, sort_keys=True)` does, so that both take the same sha256 of a case. */
export function pythonJson(value) {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (typeof value === "number") return pythonNumber(value);
  if (typeof value !== "object" || value === null) return inAscii(JSON.stringify(value));
  const members = Object.keys(value).sort().filter((key) => value[key] !== undefined);
  return `{${members.map((key) => `${inAscii(JSON.stringify(key))}: ${pythonJson(value[key])}`).join(", ")}}`;
}

function pythonNumber(value) {
  if (Number.isInteger(value) || Math.abs(value) >= 1e-4) return JSON.stringify(value);
  const [digits, exponent] = value.toExponential().split("e-");
  return `${digits}e-${exponent.padStart(2, "0")}`;
}

function inAscii(text) {
  return text.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

async function checkSha256(bytes, file) {
  const found = await sha256(bytes);
  if (found === null || found === file.sha256) return;
  throw new DetectorError(
    "model-damaged",
    `${file.name} is damaged or another file: its sha256 is ${found.slice(0, 16)}..., expected ${file.sha256.slice(0, 16)}...; ` +
      "export the folder again",
  );
}

const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

function checkWasm() {
  if (typeof WebAssembly === "undefined") {
    throw new DetectorError("no-wasm", "this browser has no WebAssembly, or it is turned off; the networks cannot run without it");
  }
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new DetectorError("no-wasm", "this browser's WebAssembly has no SIMD; use a browser from 2023 or later");
  }
}

function readManifest(bytes) {
  const expected = "deepfake-detect/model@1";
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new DetectorError("model-damaged", `model.json is no JSON: ${error.message}; export the folder again`);
  }
  if (manifest?.schema !== expected) {
    throw new DetectorError("model-unknown", `model.json has schema "${manifest?.schema}", expected "${expected}"; export the folder again`);
  }
  return manifest;
}

async function openSession(ort, bytes, executionProviders, name) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders, graphOptimizationLevel: "all", logSeverityLevel: 3 });
  } catch (error) {
    throw new DetectorError("model-unknown", `${name} is no ONNX file that this runtime can run: ${error.message ?? error}`);
  }
}

function expectNames(session, inputs, outputs, name) {
  const lacks = [...inputs.filter((i) => !session.inputNames.includes(i)), ...outputs.filter((o) => !session.outputNames.includes(o))];
  if (!lacks.length) return;
  const found = `inputs ${session.inputNames.join(", ")}; outputs ${session.outputNames.join(", ")}`;
  throw new DetectorError("model-unknown", `${name} lacks ${lacks.join(", ")} (it has ${found}); it is no file that deepfake-detect exported`);
}

async function hasWebGpu({ mustBeHardware }) {
  try {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter();
    const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter ?? false;
    return Boolean(adapter) && !(mustBeHardware && isSoftware);
  } catch {
    return false;
  }
}

/** Load onnxruntime-web from the folder `runtime/` beside this module. */
async function loadRuntime({ wantsGpu, mustGpu, threads, progress }) {
  const base = new URL("./runtime/", import.meta.url);
  const manifest = JSON.parse(new TextDecoder().decode(await download(new URL("runtime.json", base), {})));
  const usesGpu = wantsGpu && Boolean(manifest.webgpu);
  if (mustGpu && !usesGpu) {
    const reason = manifest.webgpu ? "this browser offers no WebGPU" : "this page was exported without WebGPU (--webgpu)";
    throw new DetectorError("invalid-option", `device is "webgpu", but ${reason}; use "auto"`);
  }
  const build = usesGpu ? manifest.webgpu : manifest.wasm;
  const [module, binary] = await Promise.all([
    import(new URL(build.module, base)),
    download(new URL(build.binary.name, base), { onProgress: progress.of(build.binary.name, build.binary.bytes) }).then(gunzip),
  ]);
  const ort = module.default?.InferenceSession ? module.default : module;
  const most = globalThis.crossOriginIsolated ? Math.min(4, globalThis.navigator?.hardwareConcurrency ?? 1) : 1;
  ort.env.wasm.numThreads = threads ?? most;
  ort.env.wasm.wasmBinary = binary.buffer;
  ort.env.wasm.wasmPaths = { mjs: new URL(build.glue, base).href };
  ort.env.wasm.proxy = false;
  ort.env.logLevel = "error";
  return { ort, version: manifest.version, backend: usesGpu ? "webgpu" : "wasm", threads: ort.env.wasm.numThreads };
}

/** Decompress a gzip file; one that the server has decompressed on the way stays as it is. */
async function gunzip(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  return collect(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

async function download(url, { onProgress = () => {} }) {
  if (url.protocol === "file:" && typeof process !== "undefined") return readFromDisk(url);
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new DetectorError("load-failed", `${url.pathname} cannot be loaded: ${error.message}; is the server there, and the page not opened as a file?`);
  }
  if (!response.ok) throw new DetectorError("load-failed", `${url.pathname} cannot be loaded: the server answers ${response.status}`);
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return joined(parts);
    parts.push(value);
    onProgress(value.length);
  }
}

async function readFromDisk(url) {
  const { readFile } = await import("node:fs/promises");
  try {
    return new Uint8Array(await readFile(url));
  } catch (error) {
    throw new DetectorError("load-failed", `${url.pathname} cannot be loaded: ${error.message}`);
  }
}

/** Adds up what was loaded of several files. */
class Progress {
  constructor(report) {
    this._report = report;
    this._loaded = 0;
    this._total = 0;
  }

  of(file, bytes) {
    this._total += bytes;
    return (count) => {
      this._loaded += count;
      this._report({ file, loaded: Math.min(this._loaded, this._total), total: this._total });
    };
  }
}

// ---------------------------------------------------------------- heat maps (explain/, drawing/heatmap.py)

const HEAT_PX = 128;
const COVER = [0.4, 0.75]; // how much the colour covers, from cold to hot

/**
 * Draw the heat maps of a prediction: for each face an image to be laid over its crop.
 *
 * Of Grad-CAM, what spoke for the class shown is hot: real where the picture was called real, else fake; the hottest
 * place of all faces is 1, as in Python's `Detector.explain`. A network's own map of what is forged stays as it is.
 *
 * @returns {{ image: ImageData, crop_xyxy: number[] }[]}
 */
export function heatImage(prediction) {
  return heats(prediction).map(({ heat, crop_xyxy }) => {
    const image = new ImageData(HEAT_PX, HEAT_PX);
    for (let i = 0; i < heat.length; i++) {
      image.data.set(heatColour(heat[i]), 4 * i);
      image.data[4 * i + 3] = 255 * (COVER[0] + heat[i] * (COVER[1] - COVER[0]));
    }
    return { image, crop_xyxy };
  });
}

/** Scale the maps of all faces to 0..1. @returns {{ heat: Float64Array, crop_xyxy: number[] }[]} */
export function heats(prediction, sizePx = HEAT_PX) {
  const faces = prediction.faces.filter((face) => face.heat);
  const isForged = faces.some((face) => face.heat.kind === "forged");
  const sign = prediction.label === "real" && !isForged ? -1 : 1;
  const maps = faces.map(({ heat: { values, rows, columns, crop_xyxy } }) => {
    const hot = values.map((value) => Math.max(0, sign * value));
    return { heat: enlarge(hot, rows, columns, sizePx), crop_xyxy };
  });
  if (isForged) return maps;
  const top = maps.reduce((most, { heat }) => heat.reduce((a, b) => Math.max(a, b), most), 0);
  if (top > 0) for (const { heat } of maps) for (let i = 0; i < heat.length; i++) heat[i] /= top;
  return maps;
}

/** Scale a map bilinearly, as torch does without aligned corners. */
function enlarge(values, rows, columns, sizePx) {
  const places = (length) =>
    Array.from({ length: sizePx }, (_, i) => {
      const at = Math.max(0, ((i + 0.5) * length) / sizePx - 0.5);
      const lower = Math.min(Math.floor(at), length - 1);
      return { lower, upper: Math.min(lower + 1, length - 1), share: at - lower };
    });
  const across = places(columns);
  const result = new Float64Array(sizePx * sizePx);
  places(rows).forEach((down, y) => {
    across.forEach(({ lower, upper, share }, x) => {
      const line = (row) => values[row * columns + lower] * (1 - share) + values[row * columns + upper] * share;
      result[y * sizePx + x] = line(down.lower) * (1 - down.share) + line(down.upper) * down.share;
    });
  });
  return result;
}

/** Give the colour of a heat, from a dark violet over red and orange to a light yellow, in equal steps of lightness. */
export function heatColour(share) {
  const lightness = 0.3 + share * 0.63;
  const hue = -1.2 + share * 3.05;
  const [a, b] = [0.155 * Math.cos(hue), 0.155 * Math.sin(hue)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
  ];
  return linear.map((value) => {
    const light = clamp01(value);
    return Math.round(255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055));
  });
}

// ---------------------------------------------------------------- the detector

/** A detector of deepfakes: loads a folder that `deepfake-detect export --format browser` wrote, and scores pictures. */
export class Detector {
  /**
   * Load a detector.
   *
   * @param {string | URL} folder Folder with model.json; relative to the page.
   * @param options `worker`: run in a worker, so that the page never freezes; by default in pages, not in workers or
   *   Node. `device`: "auto", "wasm" or "webgpu". `threads`: of WebAssembly, where the page is cross-origin isolated.
   *   `onProgress({ file, loaded, total })`, in bytes. `ort` and `read(name)`: another onnxruntime, and a function that
   *   gives the bytes of a file of the folder, for Node.
   */
  static async load(folder, { worker, onProgress, ...options } = {}) {
    const isPage = typeof window !== "undefined" && typeof Worker !== "undefined";
    const base = options.read ? null : new URL(`${folder}`.replace(/\/?$/, "/"), globalThis.location?.href ?? import.meta.url);
    const detector = new Detector();
    if (worker ?? (isPage && !options.ort && !options.read)) {
      detector._remote = new Remote();
      detector._facts = await detector._remote.ask("load", { base: base.href, options }, { onProgress });
    } else {
      detector._engine = await Engine.load(base, { onProgress, ...options });
      detector._facts = detector._engine.facts;
    }
    return detector;
  }

  /** The card of the weights, as Python's `Detector.card`. */
  get card() {
    return this._facts.card;
  }

  /** What runs the networks: "wasm" or "webgpu". */
  get backend() {
    return this._facts.backend;
  }

  /** Threads of WebAssembly. */
  get threads() {
    return this._facts.threads;
  }

  /**
   * Score a picture. Pictures that come in meanwhile wait for their turn.
   *
   * @param source Blob or File, bytes, ImageData, ImageBitmap, <img>, <canvas>, <video>, or a picture.
   * @param options `faces`: "auto", "all", "largest" or "none", as in Python. `threshold`: in place of the card's.
   *   `name`: for the result. `metadata`: whether to inspect the file's metadata.
   * @returns As Python's `Prediction.to_dict()`, with `heat` for each face, `input`, `metadata` and `settings`.
   */
  async predict(source, options = {}) {
    const isElement = typeof HTMLElement !== "undefined" && source instanceof HTMLElement;
    const picture = isElement ? await createImageBitmap(source, { colorSpaceConversion: "none" }) : source;
    const named = { ...options, name: options.name ?? source?.name ?? "<picture>" };
    const run = () => (this._remote ? this._remote.ask("predict", { picture, options: named }) : this._engine.predict(picture, named));
    const result = (this._last ?? Promise.resolve()).then(run, run); // sessions take one run at a time
    this._last = result.catch(() => {});
    return result;
  }

  /**
   * Record a verdict with everything that somebody else needs to check it: `deepfake-detect verify case.json PICTURE`.
   *
   * @param prediction From `predict`.
   * @returns Plain values, as docs/case.schema.json describes them.
   */
  async evidence(prediction) {
    const { input, metadata, settings, ...verdict } = prediction;
    if (!input.sha256) {
      throw new DetectorError("failed", "the evidence needs the sha256 of the picture, which browsers compute for https and localhost alone");
    }
    const { card, preprocessing, versions } = this._facts;
    const faces = verdict.faces.map(({ heat: _, ...face }) => face);
    const record = {
      schema: "deepfake-detect/case@1",
      created: `${new Date().toISOString().slice(0, 19)}+00:00`,
      input,
      weights: { id: verdict.model, sha256: card.sha256, revision: null, card },
      settings: { ...settings, preprocessing },
      verdict: { ...verdict, faces },
      stability: null,
      metadata,
      environment: { versions, system: globalThis.navigator?.platform || "browser", machine: globalThis.navigator?.userAgent ?? "" },
    };
    return { ...record, sha256: await sha256(new TextEncoder().encode(pythonJson(record))) };
  }

  /** Free the memory; the detector cannot be used any more. */
  async dispose() {
    if (this._remote) this._remote.stop();
    else await this._engine.dispose();
  }
}

/** An engine in a worker. */
class Remote {
  constructor() {
    this._worker = new Worker(new URL(import.meta.url), { type: "module", name: WORKER_NAME });
    this._waiting = new Map();
    this._count = 0;
    this._worker.onmessage = ({ data }) => this._receive(data);
    this._worker.onerror = (event) => this._fail(new DetectorError("failed", `the worker failed: ${event.message ?? "it could not be loaded"}`));
  }

  ask(verb, message, { onProgress = null } = {}) {
    if (this._dead) return Promise.reject(this._dead);
    return new Promise((resolve, reject) => {
      const id = this._count++;
      this._waiting.set(id, { resolve, reject, onProgress });
      const isBitmap = typeof ImageBitmap !== "undefined" && message.picture instanceof ImageBitmap;
      this._worker.postMessage({ id, verb, ...message }, isBitmap ? [message.picture] : []);
    });
  }

  _receive({ id, progress, result, error }) {
    const waiting = this._waiting.get(id);
    if (!waiting) return;
    if (progress) {
      waiting.onProgress?.(progress);
      return;
    }
    this._waiting.delete(id);
    if (error) waiting.reject(new DetectorError(error.code, error.message));
    else waiting.resolve(result);
  }

  _fail(error) {
    this._dead = error;
    for (const { reject } of this._waiting.values()) reject(error);
    this._waiting.clear();
  }

  stop() {
    this._worker.terminate();
    this._fail(new DetectorError("failed", "the detector was disposed of"));
  }
}

/** Answer the messages of a `Remote`. */
function serve() {
  let engine = null;
  self.onmessage = async ({ data: { id, verb, base, picture, options } }) => {
    try {
      if (verb === "load") {
        engine = await Engine.load(base, { ...options, onProgress: (progress) => self.postMessage({ id, progress }) });
        self.postMessage({ id, result: engine.facts });
      } else {
        self.postMessage({ id, result: await engine.predict(picture, options) });
      }
    } catch (error) {
      const isOurs = error instanceof DetectorError;
      self.postMessage({ id, error: { code: isOurs ? error.code : "failed", message: isOurs ? error.message : `${error?.message ?? error}` } });
    }
  };
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope && self.name === WORKER_NAME) serve();
