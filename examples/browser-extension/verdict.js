// Score the picture that was clicked on, and show the verdict.

import { Detector } from "./site/deepfake-detect.js";

const COLOURS = { fake: "#e07b1f", real: "#2f7fd6", uncertain: "#8a9099" };
const WORDS = { fake: "Fake", real: "Real", uncertain: "Uncertain", "no-face": "No face found" };
const byId = (id) => document.getElementById(id);

try {
  const loading = Detector.load("site/model/");
  const picture = await fetchPicture(await clickedAddress());
  const prediction = await (await loading).predict(picture);
  await show(picture, prediction);
} catch (error) {
  byId("verdict").className = "verdict failure";
  byId("verdict").textContent = `Could not be scored: ${error.message}`;
}

async function clickedAddress() {
  const key = location.hash.slice(1);
  const { [key]: address } = await chrome.storage.session.get(key);
  if (!address) throw new Error("the picture is not known any more; right click on it again");
  return address;
}

/** Take the picture from the browser's cache where it is, else from where the page has it. */
async function fetchPicture(address) {
  if (address.startsWith("blob:")) throw new Error("the page made this picture itself; save it, and open it in the page site/");
  const response = await fetch(address, { cache: "force-cache", credentials: "include" });
  if (!response.ok) throw new Error(`the server of the picture answers ${response.status}`);
  return response.blob();
}

async function show(picture, { label, score, faces, size_hw: [height, width], metadata }) {
  byId("verdict").className = `verdict ${label}`;
  byId("verdict").textContent = WORDS[label] + (score === null ? "" : ` ${score.toFixed(3)}`);
  byId("explanation").textContent = score === null ? "Without a face there is nothing to score." : "Score: 0 is real, 1 is fake.";
  if (faces.length > 1) list("faces", faces.map((face, i) => `Face ${i + 1}: ${face.label}, score ${face.score.toFixed(3)}`));
  const traces = metadata.findings.filter((finding) => finding.points_to);
  list("metadata", traces.map((finding) => `The file: ${finding.what} (${finding.strength}). It does not prove ${finding.not_proof}.`));
  const canvas = byId("picture");
  const scale = Math.min(1, 1280 / Math.max(width, height));
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d");
  context.drawImage(await createImageBitmap(picture, { imageOrientation: "from-image" }), 0, 0, canvas.width, canvas.height);
  context.lineWidth = Math.max(2, canvas.width / 200);
  for (const { box_xyxy: [x1, y1, x2, y2], label: verdict } of faces) {
    context.strokeStyle = COLOURS[verdict];
    context.strokeRect(x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  }
  canvas.setAttribute("aria-label", `The picture, ${faces.length} faces framed`);
  canvas.hidden = false;
}

function list(id, lines) {
  byId(id).replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}
