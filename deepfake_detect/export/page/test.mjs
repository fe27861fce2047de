// Check that the weights in model/ give the logits on their card, for pictures that are made here: npm test
import assert from "node:assert/strict";
import test from "node:test";
import { Detector } from "./deepfake-detect.js";

const SIDE = 256;
const TOLERANCE = 0.001; // of a logit

function drawn(colour) {
  const data = new Uint8Array(SIDE * SIDE * 3);
  for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) data.set(colour(x, y), (y * SIDE + x) * 3);
  return { data, width: SIDE, height: SIDE, channels: 3 };
}

function noise() {
  const mix = (value, shift, factor) => Math.imul(value ^ (value >>> shift), factor);
  const data = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
    let value = Math.imul(i, 2654435761);
    for (const [shift, factor] of [[15, 2246822519], [13, 3266489917], [16, 668265263]]) value = mix(value, shift, factor);
    return value >>> 24;
  });
  return { data, width: SIDE, height: SIDE, channels: 3 };
}

const pictures = {
  gradient: drawn((x, y) => [x, y, 255 - ((x + y) >> 1)]),
  checkerboard: drawn((x, y) => {
    const power = 5 - Math.floor(x / 52);
    const square = ((x >> power) + (y >> power)) & 1;
    return [40 + 180 * square, 60 + 140 * square, 90 + 90 * square];
  }),
  noise: noise(),
};

const detector = await Detector.load(new URL("model/", import.meta.url));

for (const [name, picture] of Object.entries(pictures)) {
  test(`the logit of the built-in picture "${name}" is the one on the card`, async (t) => {
    const expected = detector.card.golden[name];
    if (expected === undefined) return t.skip("the card has no golden logits");
    const { logit } = await detector.predict(picture, { faces: "none" });
    return assert.ok(Math.abs(logit - expected) <= TOLERANCE, `${logit}, expected ${expected}`);
  });
}

test("a picture without a face has no score", async () => {
  const { label, score, faces } = await detector.predict(pictures.gradient);
  assert.deepEqual([label, score, faces], ["no-face", null, []]);
});
