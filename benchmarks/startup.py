"""Measure the time until the library, the command line or a first verdict is ready.

    python benchmarks/startup.py

Each line gives the median and the minimum of runs in processes of their own, which take turns: the time from the start
until the program reports that it is ready; and the median until it has ended, since torch is slow to exit. The rivals
load the same weights into timm's network by hand, and through the pipeline of Hugging Face where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

from deepfake_detect import list_pretrained
from deepfake_detect.engines.openvino_graph import is_installed

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
VERDICT = "from deepfake_detect import Detector; Detector.from_pretrained({!r}, backend={!r}).predict({!r})"
TIMM = """
import numpy, safetensors.torch, timm, torch
from PIL import Image
from deepfake_detect.weights.bundle import PRETRAINED
network = timm.create_model("legacy_xception", num_classes=1).eval()
weights = safetensors.torch.load_file(PRETRAINED / "xception-fakefaces@1" / "model.safetensors")
network.load_state_dict({key.removeprefix("net."): value for key, value in weights.items()})
pixels = numpy.asarray(Image.open({!r}).convert("RGB").resize((192, 192)))
with torch.inference_mode():
    network((torch.from_numpy(pixels.copy()).float() / 127.5 - 1).permute(2, 0, 1)[None])
"""
PIPELINE = """
import safetensors.torch
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, TimmWrapperImageProcessor, pipeline
from deepfake_detect.weights.bundle import PRETRAINED
settings = {"input_size": [3, 192, 192], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0, "num_classes": 1}
config = TimmWrapperConfig(architecture="legacy_xception", num_labels=1, pretrained_cfg=settings)
model = TimmWrapperForImageClassification(config).eval()
weights = safetensors.torch.load_file(PRETRAINED / "xception-fakefaces@1" / "model.safetensors")
model.timm_model.load_state_dict({key.removeprefix("net."): value for key, value in weights.items()})
processor = TimmWrapperImageProcessor(pretrained_cfg=settings)
pipeline("image-classification", model=model, image_processor=processor, device="cpu")({!r})
"""


def programs() -> dict[str, list[str]]:
    """Give the programs, each as what stands behind ``python``."""
    here = str(PORTRAIT)
    backends = ["torch", *(["openvino"] if is_installed() else [])]
    verdicts = [(name, backend) for backend in backends for name in list_pretrained()]
    programs = {
        "import deepfake_detect": ["-c", "import deepfake_detect"],
        "deepfake-detect --help": ["-m", "deepfake_detect", "--help"],
        "from deepfake_detect import find_faces": ["-c", "from deepfake_detect import find_faces"],
        "import torch": ["-c", "import torch"],
        **({"import openvino": ["-c", "import openvino"]} if is_installed() else {}),
        "from deepfake_detect import Detector": ["-c", "from deepfake_detect import Detector"],
        **{
            f"first verdict, {name}, {backend}": ["-c", VERDICT.format(name, backend, here)]
            for name, backend in verdicts
        },
        "first verdict, timm by hand": ["-c", TIMM.replace("{!r}", repr(here))],
    }
    if importlib.util.find_spec("transformers"):
        programs["first verdict, pipeline"] = ["-c", PIPELINE.replace("{!r}", repr(here))]
    return programs


def seconds(program: list[str]) -> tuple[float, float]:
    """Time a program in a process of its own: until it is done, and until it has ended."""
    program = [*program[:-1], f"{program[-1]}\nprint(flush=True)"] if program[0] == "-c" else program
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = time.perf_counter() - start
        process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return done, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time the start of the library and of the command.")
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    chosen = programs()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for run in range(runs + 1):
        for name, program in chosen.items():
            took = seconds(program)
            if run:  # the first fills the caches
                times[name].append(took)
    print("| | median, s | least, s | median to its end, s |\n|---|---|---|---|")
    for name, took in times.items():
        done, ended = zip(*took, strict=True)
        print(f"| {name} | {statistics.median(done):.2f} | {min(done):.2f} | {statistics.median(ended):.2f} |")


if __name__ == "__main__":
    main()
