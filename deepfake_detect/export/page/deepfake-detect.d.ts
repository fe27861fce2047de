/** Detect deepfakes in pictures, in a browser or in Node. Results have the fields of Python's `Prediction.to_dict()`. */

/** Left, top, right, bottom, in pixels of the upright picture. */
export type Box = [number, number, number, number];
export type FaceLabel = "real" | "fake" | "uncertain";
export type Label = FaceLabel | "no-face";
/** Every face, looking again with a border where none is found; without that; the largest; or the picture as it is. */
export type FaceChoice = "auto" | "all" | "largest" | "none";
export type Strength = "strong" | "moderate" | "weak" | "neutral";
export type ErrorCode =
  | "no-wasm"
  | "load-failed"
  | "model-damaged"
  | "model-unknown"
  | "image-unreadable"
  | "image-too-large"
  | "invalid-option"
  | "failed";

/** Rows of 8-bit RGB (3 channels) or RGBA (4) without gaps. */
export interface Picture {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
  channels?: 3 | 4;
  /** Whether the pixels come from a JPEG, which is reduced first where it is large, as Python does. */
  isJpeg?: boolean;
}

export type PictureSource =
  | Blob
  | ArrayBuffer
  | Uint8Array
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | Picture;

export interface Preprocessing {
  size_px: number;
  mean: [number, number, number];
  std: [number, number, number];
  interpolation: "bilinear" | "bicubic" | "mipmap";
  margin: number;
  finder: string;
}

/** How weights are used, and how good they are. */
export interface Card {
  name: string;
  version: number;
  architecture: string;
  preprocessing: Preprocessing;
  temperature: number;
  bias: number;
  threshold: number;
  uncertain: [number, number] | null;
  sha256: string;
  licence: string;
  limits: string[];
  golden: Record<string, number>;
  [name: string]: unknown;
}

/** The heat map of a face before it is drawn. */
export interface Heat {
  /** Grad-CAM, above zero what speaks for fake; or how likely each place is forged, 0 to 1. */
  kind: "grad-cam" | "forged";
  values: number[];
  rows: number;
  columns: number;
  crop_xyxy: Box;
}

export interface Face {
  box_xyxy: Box;
  /** Right eye, left eye, nose tip, right and left corner of the mouth; empty where the picture stands for a face. */
  landmarks_xy: [number, number][];
  confidence: number;
  /** Calibrated probability that the face is fake, 0 to 1. */
  score: number;
  /** Output of the model; positive means fake. */
  logit: number;
  label: FaceLabel;
  /** Null where the network has no closed form of its heat map. */
  heat: Heat | null;
}

export interface MetadataFinding {
  code: string;
  what: string;
  segment: string;
  offset: number | null;
  strength: Strength;
  points_to: "generated" | "edited" | "captured" | null;
  not_proof: string;
  value: string;
}

export interface MetadataFindings {
  name: string;
  format: string;
  size_hw: [number, number] | null;
  file_bytes: number;
  c2pa: "absent" | "present, not verified";
  strongest: Strength;
  findings: MetadataFinding[];
}

export interface Prediction {
  name: string;
  label: Label;
  /** The highest of the faces; null without a face. */
  score: number | null;
  logit: number | null;
  threshold: number;
  /** Largest first. */
  faces: Face[];
  size_hw: [number, number];
  model: string;
  revision: null;
  seconds: number;
  backend: string;
  dtype: "float32";
  error: null;
  settings: { faces: FaceChoice; threshold: number | null };
  /** `sha256` is null where the page is not served over https or localhost. */
  input: { name: string; kind: "file" | "pixels"; bytes: number; sha256: string | null };
  /** Null for pixels, which have no file. */
  metadata: MetadataFindings | null;
}

export interface PredictOptions {
  faces?: FaceChoice;
  /** In place of the card's; the uncertain band is then left aside. */
  threshold?: number | null;
  name?: string;
  metadata?: boolean;
}

export interface LoadProgress {
  file: string;
  /** Bytes of all files. */
  loaded: number;
  total: number;
}

export interface LoadOptions {
  /** Run in a worker; by default in pages, not in workers or Node. */
  worker?: boolean;
  device?: "auto" | "wasm" | "webgpu";
  /** Of WebAssembly; one where the page is not cross-origin isolated. */
  threads?: number | null;
  onProgress?: (progress: LoadProgress) => void;
  /** Another onnxruntime, such as `onnxruntime-node`; not with a worker. */
  ort?: unknown;
  /** Gives the bytes of a file of the folder; not with a worker. */
  read?: (name: string) => Promise<Uint8Array>;
}

/** What runs a face finder: takes [1, 3, height, width] BGR, gives its outputs by name. */
export type RunFinder = (input: Float32Array, height: number, width: number) => Promise<Record<string, Float32Array>>;

export class DetectorError extends Error {
  constructor(code: ErrorCode, message: string);
  readonly code: ErrorCode;
}

export class Detector {
  /** Load a folder that `deepfake-detect export --format browser` wrote: `model/` in it. */
  static load(folder: string | URL, options?: LoadOptions): Promise<Detector>;
  readonly card: Card;
  readonly backend: "wasm" | "webgpu";
  readonly threads: number;
  /** Score a picture; those that come in meanwhile wait for their turn. Rejects with a `DetectorError`. */
  predict(source: PictureSource, options?: PredictOptions): Promise<Prediction>;
  /** Record a verdict so that `deepfake-detect verify case.json PICTURE` can check it. */
  evidence(prediction: Prediction): Promise<Record<string, unknown>>;
  dispose(): Promise<void>;
}

export const MAX_PIXELS: number;
export function openPicture(source: PictureSource): Promise<Required<Picture> & { bytes: Uint8Array | null }>;
export function inspectMetadata(bytes: Uint8Array, traces: unknown, options?: { name?: string }): Promise<MetadataFindings>;
export function sniff(bytes: Uint8Array): { format: string | null; size_hw: [number, number] | null };
export function findFaces(image: Picture, run: RunFinder, options?: { border?: boolean }): Promise<Face[]>;
export function lookAtPicture(
  image: Picture,
  preprocessing: Preprocessing,
  run: RunFinder,
  options?: { faces?: FaceChoice },
): Promise<{ faces: Face[]; crops: Uint8Array[]; squares: Box[] }>;
export function cropSquare(box: Box, margin: number, size_hw: [number, number]): Box;
export function cropFace(image: Picture, box: Box, preprocessing: Pick<Preprocessing, "margin" | "size_px" | "interpolation">): Uint8Array;
export function resample(image: Picture, box: Box | null, sizePx: number, interpolation: string): Uint8Array;
export function shrinkArea(image: Picture, width: number, height: number): Picture;
export function normalise(crops: Uint8Array[], preprocessing: Pick<Preprocessing, "size_px" | "mean" | "std">): Float32Array;
export function judge(
  logit: number,
  card: Pick<Card, "temperature" | "bias" | "threshold" | "uncertain">,
  threshold?: number | null,
): [number, FaceLabel];
/** Write JSON as Python's `json.dumps(value, sort_keys=True)`. */
export function pythonJson(value: unknown): string;
export function heats(prediction: Prediction, sizePx?: number): { heat: Float64Array; crop_xyxy: Box }[];
export function heatImage(prediction: Prediction): { image: ImageData; crop_xyxy: Box }[];
export function heatColour(share: number): [number, number, number];
