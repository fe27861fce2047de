"""Measure the time to open and scale a picture, and compare it with Pillow and torch.

The methods take turns in every round, in one thread and in as many threads as there are processors, where a method that
holds Python's lock makes the others wait. Freed memory is reused, as in `predict_many`. The pixels are compared with
those of Pillow; with ``--data``, so are the scores.

    python benchmarks/opening.py --side-px 600 --size-px 160
    python benchmarks/opening.py --data FOLDER --model mobile-fakefaces    # a data set, as read_dataset takes it
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepfake_detect import Detector
from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.inputs.image import open_image
from deepfake_detect.inputs.resize import resample
from deepfake_detect.predict.verdict import judge
from deepfake_detect.system.device import count_processors, share_threads
from deepfake_detect.system.malloc import keep_freed_memory

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
Way = Callable[[], np.ndarray]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-px", type=int, default=600, help="of the JPEG")
    parser.add_argument("--size-px", type=int, default=160, help="of what a model takes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=40, help="pictures in a round, for each thread")
    parser.add_argument("--data", type=Path, help="pictures whose scores are compared, in place of the table")
    parser.add_argument("--model", default="mobile-fakefaces")
    options = parser.parse_args()
    if options.data:
        compare_scores(options.data, options.model)
        return
    keep_freed_memory()
    chosen = ways(options.side_px, options.size_px)
    took: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for name, way in chosen.items():
            for threads in (1, count_processors()):
                took.setdefault((name, threads), []).append(seconds(way, threads, options.count))
    print(f"JPEG of {options.side_px} px, quality 90, scaled to {options.size_px} px; ms of a thread for a picture\n")
    print(f"| | one thread | {count_processors()} threads | bytes that are not Pillow's |\n|---|---|---|---|")
    for name, way in chosen.items():
        alone, together = (1e3 * statistics.median(took[name, threads]) for threads in (1, count_processors()))
        other = (way() != chosen[f"{name.split(',')[0]}, Pillow"]()).mean()
        print(f"| {name} | {alone:.2f} | {together:.2f} | {other:.2%} |")


def ways(side_px: int, size_px: int) -> dict[str, Way]:
    """Give what is compared: two or three ways to do each of two things."""
    file = io.BytesIO()
    small = (size_px, size_px)
    portrait = Image.open(PORTRAIT).convert("RGB").resize((side_px, side_px), Image.Resampling.BICUBIC)
    portrait.save(file, "JPEG", quality=90)
    content = file.getvalue()
    pixels = np.array(Image.open(file).convert("RGB"))

    return {
        "decode, Pillow": lambda: np.array(Image.open(io.BytesIO(content)).convert("RGB")),
        "decode, open_image": lambda: open_image(content).pixels,
        "scale, Pillow": lambda: np.asarray(Image.fromarray(pixels).resize(small, Image.Resampling.BICUBIC)),
        "scale, torch": lambda: by_torch(pixels, size_px),
        "scale, resample": lambda: resample(pixels, size_px=size_px, interpolation="bicubic"),
    }


def by_torch(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Scale a whole picture as torch does it to bytes."""
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.inference_mode():
        scaled = torch.nn.functional.interpolate(batch, (size_px, size_px), mode="bicubic", antialias=True)
    return scaled[0].permute(1, 2, 0).numpy()


def compare_scores(data: Path, model: str, *, count: int = 400) -> None:
    """Say how far scores of whole pictures move where torch scales them."""
    detector = Detector.from_pretrained(model, device="cpu")
    size_px, samples = detector.card.preprocessing.size_px, read_dataset(data)
    chosen = [samples[place] for place in np.linspace(0, len(samples) - 1, count).astype(int)]
    opened = [open_image(sample.image).pixels for sample in chosen]
    ours = detector.logits([resample(pixels, size_px=size_px, interpolation="bicubic") for pixels in opened])
    torchs = detector.logits([by_torch(pixels, size_px) for pixels in opened])
    scores = [np.array([judge(logit, card=detector.card)[0] for logit in logits]) for logits in (ours, torchs)]
    moved = np.abs(np.subtract(*scores))
    most, nearly_all = moved.max(), np.quantile(moved, 0.99)
    print(f"{model}, {count} pictures: scores move by {most:.3f} at most, 99 % by less than {nearly_all:.3f}")


def seconds(way: Way, threads: int, count: int) -> float:
    """Time so many threads doing it so often each: of a thread, for once."""
    with ThreadPoolExecutor(threads) as pool:
        share_threads(pool, workers=threads, lanes=count_processors())
        start = time.perf_counter()
        for future in [pool.submit(lambda: [way() for _ in range(count)]) for _ in range(threads)]:
            future.result()
        return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
