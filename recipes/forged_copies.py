"""Make forged copies of photographs, each listed beside its original.

Usage:
    python -m recipes.forged_copies swap --data DATA --splits val,test --count 450 --out COPIES
    python -m recipes.forged_copies autoencoder --weights MODELS --data DATA --splits val,test --count 450 --out COPIES
    python -m recipes.forged_copies upsample --data DATA --sources dfdc,ciplab --splits train --size-px 192 --out COPIES
    python -m recipes.forged_copies levelled --weights MODELS --data DATA --sources ffhq140k --splits train --out COPIES

``swap`` covers a face with its own mirror image, as ``examples/make_fake.py`` does, with colours, detail and edges that
differ from picture to picture. ``autoencoder`` passes the picture through the tiny autoencoder of the FLUX.2 latent
space: the content stays exactly the same. ``upsample`` adds the faint grid that the uneven weights of transposed
convolutions leave in the pictures of generators, and removes some detail. ``levelled`` does one of these two, in the
whole picture or within the face, and gives the forgery the power spectrum of its photograph, or more of it, so that
sharpness does not reveal the label. The photographs, by default of the sources without fakes, are cropped to a square
of 256 px and saved once unchanged and once forged, both as JPEG, quality 88, 4:2:0. ``COPIES/manifest.csv`` lists them;
original and copy have the group of the photograph.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from deepfake_detect import find_faces
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.inputs.image import open_image
from deepfake_detect.training.self_blend import face_mask
from examples.make_fake import swap_face

PLAIN = {"mebeauty", "utkface", "phone", "unsplash-men", "headshots", "caltech"}
"""Sources of photographs alone."""

_BANDS = 48

_UP = {"decoder": (6, 11, 16), "encoder": ()}
_DOWN = {"decoder": (), "encoder": (2, 6, 10)}


class Block(nn.Module):
    """Three convolutions and a skip; at the coarsest level a bottleneck is added first."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.pool = None
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(64, 256, 1, bias=False), nn.GroupNorm(4, 256), nn.ReLU(), nn.Conv2d(256, 64, 1, bias=False)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map [N, 64, H, W] to the same shape."""
        if self.pool is not None:
            maps = maps + self.pool(maps)
        return torch.relu(self.conv(maps) + maps)


def load_autoencoder(folder: Path) -> nn.Module:
    """Build encoder and decoder: [N, 3, H, W] in 0..1, sides multiples of 8, to the same shape and range."""
    return nn.Sequential(_load(folder, "encoder"), _Squash(), _load(folder, "decoder")).eval()


def reconstruct(autoencoder: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Pass one [H, W, 3] uint8 picture through the autoencoder; the result has the same shape."""
    batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        passed = autoencoder(batch.contiguous(memory_format=torch.channels_last)).float()
    return (passed[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def swap(random: np.random.Generator, pixels: np.ndarray) -> np.ndarray | None:
    """Cover the largest face with its mirror image; None where no face is found."""
    faces = find_faces(pixels)
    if not faces:
        return None
    side = faces[0].box_xyxy[3] - faces[0].box_xyxy[1]
    return swap_face(
        pixels,
        faces[0],
        stretch=random.uniform(0.97, 1.06),
        colour=random.uniform(-8, 8),
        detail_px=int(side * random.uniform(0.5, 0.9)),
        feather=random.uniform(0.1, 0.3),
    )


def upsample(random: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Give a [H, W, 3] uint8 picture the faint grid that uneven transposed convolutions leave; sides multiples of 4."""
    picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[:, None].float()
    times, share = int(random.integers(1, 3)), random.uniform(0, 0.6)
    smooth = small = functional.interpolate(picture, scale_factor=0.5**times, mode="bilinear", antialias=True)
    taps = np.array([[0.0, 1.0, 1.0, 0.0], [0.25, 0.75, 0.75, 0.25]][random.integers(2)])  # nearest, bilinear
    for _ in range(times):
        even = np.outer(taps, taps)
        smooth = _enlarge(smooth, even)
        small = _enlarge(small, even * random.normal(1, random.uniform(0.01, 0.05), (4, 4)))
    forged = picture + share * (smooth - picture) + (small - smooth)
    return forged[:, 0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy()


def levelled(random: np.random.Generator, pixels: np.ndarray, *, autoencoder: nn.Module) -> np.ndarray:
    """Forge a [H, W, 3] uint8 picture by a decoder or an uneven up-sampling, so that its sharpness does not tell."""
    shrink = (1.0, 1.5, 2.0, 3.0)[random.integers(4)]
    forged = coarsely(autoencoder, pixels, shrink=shrink) if random.random() < 0.8 else upsample(random, pixels)
    forged = level(pixels, forged, degree=random.uniform(0, 2))
    faces = find_faces(pixels) if random.random() < 0.4 else []
    if not faces:
        return forged
    mask = face_mask(faces[0].landmarks_xy, (pixels.shape[1], pixels.shape[0]), random=random)
    return np.asarray(Image.composite(Image.fromarray(forged), Image.fromarray(pixels), mask))


def coarsely(autoencoder: nn.Module, pixels: np.ndarray, *, shrink: float) -> np.ndarray:
    """Reconstruct a [H, W, 3] uint8 picture so many times smaller; the finer detail stays that of the picture."""
    height, width = (max(8, round(side / shrink / 8) * 8) for side in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
    change = torch.from_numpy(reconstruct(autoencoder, small).astype(np.float32) - small).permute(2, 0, 1)[None]
    large = functional.interpolate(change, pixels.shape[:2], mode="bicubic")[0].permute(1, 2, 0).numpy()
    return (pixels + large).clip(0, 255).round().astype(np.uint8)


def level(photograph: np.ndarray, forged: np.ndarray, *, degree: float) -> np.ndarray:
    """Bring the power of each spatial frequency, over all directions, and the colours to those of the photograph.

    With a degree of 0 the frequencies stay as they are, with 2 what was lost or won is turned round.
    """
    height, width = forged.shape[:2]
    away = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * 2 * _BANDS
    band = np.minimum(away.round().astype(int), _BANDS)
    spectra = [np.abs(np.fft.fft2(picture.mean(-1))) ** 2 for picture in (photograph, forged)]
    was, now = (np.bincount(band.ravel(), power.ravel()) for power in spectra)
    gain = np.clip((was + 1) / (now + 1), 1 / 16, 16) ** (degree / 2)
    spectrum = np.fft.fft2(forged.astype(float), axes=(0, 1)) * gain[band][..., None]
    sharp = np.fft.ifft2(spectrum, axes=(0, 1)).real
    middle, spread = sharp.mean((0, 1)), sharp.std((0, 1)) + 1e-6
    coloured = (sharp - middle) * (photograph.std((0, 1)) / spread) + photograph.mean((0, 1))
    return coloured.clip(0, 255).round().astype(np.uint8)


def _enlarge(maps: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
    weight = torch.tensor(kernel[None, None] * 4 / kernel.sum(), dtype=torch.float32)
    padded = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    return functional.conv_transpose2d(padded, weight, stride=2)[..., 3:-3, 3:-3]


class _Squash(nn.Module):
    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.tanh(latent / 3) * 3


def _load(folder: Path, part: str) -> nn.Sequential:
    tensors = {
        name: value.float() for name, value in safetensors.torch.load_file(folder / f"taef2_{part}.safetensors").items()
    }
    last = max(int(name.partition(".")[0]) for name in tensors)
    network = nn.Sequential(*(_layer(index, tensors, part) for index in range(last + 1)))
    network.load_state_dict(tensors)
    return network


def _layer(index: int, tensors: dict[str, torch.Tensor], part: str) -> nn.Module:
    if f"{index}.conv.0.weight" in tensors:
        return Block(pooled=f"{index}.pool.0.weight" in tensors)
    if f"{index}.weight" in tensors:
        after, before = tensors[f"{index}.weight"].shape[:2]
        stride = 2 if index in _DOWN[part] else 1
        return nn.Conv2d(before, after, 3, padding=1, stride=stride, bias=f"{index}.bias" in tensors)
    if index in _UP[part]:
        return nn.Upsample(scale_factor=2)
    return nn.ReLU() if index == 2 else nn.Identity()


def photographs(
    data: Path, sources: Sequence[str], splits: Sequence[str], *, count: int, seed: int = 0
) -> list[Sample]:
    """Draw photographs, as many of each source as there are."""
    samples = [
        s for s in read_dataset(data / "manifest.csv") if s.label == 0 and s.source in sources and s.split in splits
    ]
    return [samples[index] for index in np.random.default_rng(seed).permutation(len(samples))[:count]]


def write_forged_copies(
    way: str, samples: Sequence[Sample], out: Path, *, weights: Path | None = None, size_px: int = 256, seed: int = 0
) -> int:
    """Write photographs and their forged copies, and a table of them; give the number of pictures."""
    forge, rows = _forger(way, weights, seed), []
    for sample in samples:
        pixels = _square(sample, size_px)
        forged = forge(pixels)
        for label, shown in (("real", pixels), ("fake", forged)) if forged is not None else ():
            file = out / label / f"{sample.source}-{Path(sample.image).stem}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shown).save(file, quality=88, subsampling="4:2:0")
            made = "camera" if label == "real" else way
            rows.append([f"{label}/{file.name}", label, way, made, sample.group or file.stem, sample.split])
    with (out / "manifest.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["file", "label", "source", "generator", "group", "origin"], *rows])
    return len(rows)


def _square(sample: Sample, side_px: int) -> np.ndarray:
    picture = Image.fromarray(open_image(sample.image).pixels)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((side_px, side_px), Image.Resampling.BICUBIC))


def _forger(way: str, weights: Path | None, seed: int) -> Callable[[np.ndarray], np.ndarray | None]:
    random = np.random.default_rng(seed)
    if way in ("swap", "upsample"):
        return partial({"swap": swap, "upsample": upsample}[way], random)
    if weights is None:
        raise SystemExit("--weights is missing: the folder with taef2_encoder and taef2_decoder")
    network = load_autoencoder(weights)
    return partial(levelled, random, autoencoder=network) if way == "levelled" else partial(reconstruct, network)


def main() -> None:
    """Read the command line and write the forged copies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("swap", "autoencoder", "upsample", "levelled"))
    parser.add_argument("--weights", type=Path, help="folder with taef2_encoder and taef2_decoder")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--sources", default=",".join(sorted(PLAIN)), help="of the photographs")
    parser.add_argument("--splits", default="val,test")
    parser.add_argument("--size-px", type=int, default=256, help="side of the square, a multiple of 8")
    parser.add_argument("--count", type=int, default=300, help="photographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    samples = photographs(
        options.data, options.sources.split(","), options.splits.split(","), count=options.count, seed=options.seed
    )
    size_px, seed = options.size_px, options.seed
    count = write_forged_copies(options.way, samples, options.out, weights=options.weights, size_px=size_px, seed=seed)
    print(f"{count // 2} photographs and their forged copies in {options.out}")


if __name__ == "__main__":
    main()
