// The page: takes pictures, shows what the detector says of them, and saves the evidence.

import { Detector, heatImage } from "./deepfake-detect.js";

const byId = (id) => document.getElementById(id);
const COLOURS = { fake: "#e07b1f", real: "#2f7fd6", uncertain: "#8a9099" };
const LARGEST_CANVAS_PX = 1280;
const EXPLANATIONS = {
  fake: (score, card) => `The score is ${score}; from ${decimals(card.uncertain?.[1] ?? card.threshold)} on a face is called fake.`,
  real: (score, card) => `The score is ${score}; below ${decimals(card.uncertain?.[0] ?? card.threshold)} a face is called real.`,
  uncertain: (score, card) =>
    `The score is ${score}; between ${card.uncertain.map(decimals).join(" and ")} the detector does not decide.`,
  "no-face": () => "No face was found, so there is nothing to score. A face may be too small, too dark or turned away.",
};
const HEADLINES = { fake: "Fake", real: "Real", uncertain: "Uncertain", "no-face": "No face" };

let detector = null;
const loading = load();
let queue = Promise.resolve();
let waiting = 0;

function decimals(value) {
  return value.toFixed(3);
}

async function load() {
  const started = performance.now();
  try {
    detector = await Detector.load("model/", { onProgress: showProgress, device: new URLSearchParams(location.search).get("device") ?? "auto" });
  } catch (error) {
    byId("loading").hidden = true;
    const failure = byId("status");
    failure.className = "failure";
    failure.textContent = `The detector cannot be loaded: ${error.message}`;
    for (const id of ["choose", "use-camera"]) byId(id).disabled = true;
    throw error;
  }
  byId("loading").hidden = true;
  document.body.dataset.ready = Math.round(performance.now() - started);
  showCard();
  keepOffline();
}

function showProgress({ loaded, total }) {
  const share = total ? loaded / total : 0;
  byId("progress").value = share;
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  byId("progress-label").textContent =
    share < 1 ? `Loading the detector: ${megabytes(loaded)} of ${megabytes(total)} MB` : "Starting the detector";
}

function showCard() {
  const { card, backend, threads } = detector;
  const band = card.uncertain;
  byId("band").textContent = band
    ? `From ${decimals(band[0])} to ${decimals(band[1])} the detector abstains: the face is called uncertain.`
    : `From ${decimals(card.threshold)} on, a face is called fake.`;
  byId("limits").replaceChildren(...card.limits.map((limit) => element("li", limit)));
  byId("licence").textContent = `Licence of the weights: ${card.licence}.`;
  const engine = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads === 1 ? "one thread" : `${threads} threads`}`;
  byId("about").textContent = `${card.name}@${card.version}, run by ${engine}.`;
}

async function keepOffline() {
  if (!navigator.serviceWorker || !window.isSecureContext) return;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await queue; // the first verdict has the processor for itself
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    byId("about").textContent += " This page now works without a network.";
    document.body.dataset.offline = "true";
  } catch (error) {
    byId("about").textContent += ` This page needs the network: ${error.message}.`;
  }
}

function element(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

// ---------------------------------------------------------------- pictures come in

function take(files) {
  for (const file of files) {
    waiting++;
    announce();
    queue = queue.then(() => score(file));
  }
}

function announce(words = "") {
  const rest = waiting ? `${waiting} ${waiting === 1 ? "picture is" : "pictures are"} being scored.` : "";
  byId("status").textContent = [words, rest].filter(Boolean).join(" ");
  document.body.dataset.waiting = waiting;
}

async function score(file) {
  const name = file.name || "pasted picture";
  let words;
  try {
    await loading;
    const prediction = await detector.predict(file, { name });
    await show(file, prediction);
    words = `${name}: ${describe(prediction)}.`;
  } catch (error) {
    showFailure(name, error);
    words = `${name}: could not be scored.`;
  }
  waiting--;
  announce(words);
}

function describe({ label, score: value }) {
  return value === null ? HEADLINES[label].toLowerCase() : `${label}, score ${decimals(value)}`;
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = "";
});
document.addEventListener("paste", ({ clipboardData }) => {
  take([...clipboardData.files].filter((file) => file.type.startsWith("image/")));
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files);
});

// ---------------------------------------------------------------- the camera

byId("use-camera").addEventListener("click", openCamera);
byId("close-camera").addEventListener("click", () => byId("camera").close());
byId("camera").addEventListener("close", stopCamera);
byId("shoot").addEventListener("click", async () => {
  const video = byId("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const picture = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  byId("camera").close();
  if (picture) take([new File([picture], `camera ${new Date().toLocaleTimeString()}.png`, { type: "image/png" })]);
});

async function openCamera() {
  const video = byId("video");
  try {
    if (!navigator.mediaDevices) throw new Error("the browser offers cameras to pages on https or localhost alone");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
    byId("camera").showModal();
  } catch (error) {
    announce(`The camera cannot be used: ${error.message}.`);
  }
}

function stopCamera() {
  const video = byId("video");
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

// ---------------------------------------------------------------- results

function newArticle() {
  return document.importNode(byId("result").content, true).firstElementChild; // a clone has no fonts to draw with
}

async function show(file, prediction) {
  const article = newArticle();
  const find = (selector) => article.querySelector(selector);
  article.classList.add("has-picture");
  find(".name").textContent = prediction.name;
  find(".verdict").textContent = HEADLINES[prediction.label] + (prediction.score === null ? "" : ` ${decimals(prediction.score)}`);
  find(".verdict").classList.add(prediction.label);
  find(".explanation").textContent = EXPLANATIONS[prediction.label](
    prediction.score === null ? "" : decimals(prediction.score),
    detector.card,
  );
  find(".faces").replaceChildren(...faceItems(prediction));
  const picture = await drawable(file, prediction.size_hw);
  const canvas = find("canvas");
  canvas.setAttribute("aria-label", `${prediction.name}: ${describe(prediction)}; ${countFaces(prediction)} framed`);
  const draw = (showsHeat) => drawResult(canvas, picture, prediction, showsHeat);
  draw(false);
  connectHeat(article, prediction, draw);
  find(".save").addEventListener("click", () => saveEvidence(prediction));
  find(".remove").addEventListener("click", () => remove(article));
  showMetadata(find(".metadata"), prediction.metadata);
  byId("results").prepend(article);
}

function countFaces({ faces }) {
  return faces.length === 1 ? "1 face" : `${faces.length} faces`;
}

function faceItems({ faces }) {
  if (faces.length < 2) return [];
  return faces.map((face, i) => element("li", `Face ${i + 1}: ${face.label}, score ${decimals(face.score)}`));
}

async function drawable(file, [height, width]) {
  const scale = Math.min(1, LARGEST_CANVAS_PX / Math.max(width, height));
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(file, { imageOrientation: "from-image", resizeWidth, resizeHeight, resizeQuality: "medium" });
}

function drawResult(canvas, picture, prediction, showsHeat) {
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0);
  const scale = picture.width / prediction.size_hw[1];
  if (showsHeat) drawHeat(context, prediction, scale);
  const line = Math.max(2, Math.round(Math.max(canvas.width, canvas.height) / 250));
  prediction.faces.forEach((face, i) => drawFrame(context, face, i, { scale, line, isNumbered: prediction.faces.length > 1 }));
}

function drawFrame(context, face, index, { scale, line, isNumbered }) {
  const [x1, y1, x2, y2] = face.box_xyxy.map((value) => value * scale);
  context.lineWidth = line;
  context.strokeStyle = COLOURS[face.label];
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  const caption = `${isNumbered ? `${index + 1}: ` : ""}${face.label} ${decimals(face.score)}`;
  const size = Math.max(14, Math.round(context.canvas.width / 45));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const width = context.measureText(caption).width + size;
  const left = Math.max(0, Math.min(x1 - line / 2, context.canvas.width - width));
  const top = Math.max(0, y1 - 1.5 * size);
  context.fillStyle = COLOURS[face.label];
  context.fillRect(left, top, width, 1.5 * size);
  context.fillStyle = "#000";
  context.fillText(caption, left + size / 2, top + 1.08 * size);
}

function drawHeat(context, prediction, scale) {
  for (const { image, crop_xyxy: [x1, y1, x2, y2] } of heatImage(prediction)) {
    const layer = new OffscreenCanvas(image.width, image.height);
    layer.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(layer, x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  }
}

function connectHeat(article, prediction, draw) {
  const [button, legend] = [article.querySelector(".heat"), article.querySelector(".legend")];
  button.hidden = !prediction.faces.some((face) => face.heat);
  const isForged = prediction.faces.some((face) => face.heat?.kind === "forged");
  legend.textContent = isForged
    ? "Light: what the detector takes for forged. Dark: what it does not. It is wrong about places as it is about faces."
    : `Light: what spoke most for ${prediction.label === "real" ? "real" : "fake"}. Dark: what did not. ` +
      "A heat map shows where the detector looked, not what was forged.";
  button.addEventListener("click", () => {
    const shows = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shows);
    legend.hidden = !shows;
    draw(shows);
  });
}

function showMetadata(details, metadata) {
  details.hidden = !metadata;
  if (!metadata) return;
  const telling = metadata.findings.filter((finding) => finding.points_to);
  const count = telling.length === 1 ? "1 trace" : `${telling.length} traces`;
  const summary = telling.length ? `${count}, the strongest ${metadata.strongest}` : "no trace of its origin";
  details.querySelector("summary").textContent = `File: ${summary}`;
  details.open = ["strong", "moderate"].includes(metadata.strongest);
  details.querySelector("ul").replaceChildren(...metadata.findings.map(findingItem));
}

function findingItem({ strength, points_to: pointsTo, what, not_proof: notProof, segment }) {
  const item = element("li", "");
  item.append(element("strong", pointsTo ? `${strength}, ${pointsTo}: ` : ""), `${what} [${segment}]`);
  item.append(element("small", `Does not prove ${notProof}.`));
  return item;
}

function showFailure(name, error) {
  const article = newArticle();
  article.querySelector("figure").remove();
  for (const selector of [".explanation", ".faces", ".heat", ".save", ".metadata"]) article.querySelector(selector).remove();
  article.querySelector(".name").textContent = name;
  const verdict = article.querySelector(".verdict");
  verdict.classList.add("failure");
  verdict.textContent = `Could not be scored: ${error.message}`;
  article.querySelector(".remove").addEventListener("click", () => remove(article));
  byId("results").prepend(article);
}

function remove(article) {
  const next = article.nextElementSibling ?? byId("choose");
  article.remove();
  next.focus();
}

async function saveEvidence(prediction) {
  try {
    const text = `${JSON.stringify(await detector.evidence(prediction), null, 2)}\n`;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `${prediction.name.replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "_") || "picture"}.case.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    announce(error.message);
  }
}
