"""Kill processes at random moments, and check that what was there before, or what is there after, is whole.

Run from the root of the repository: ``python -m campaigns.processes [--kills N] [--seconds S]``. Each kind of work runs
in a forked child that is killed (``kill -9``) after a random part of the time that it takes undisturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from campaigns._table import Table, until
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.training.checkpoint import Progress, load_state, save_state
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.load import load_model, save_bundle

NAME = "meso4-fakefaces"


def save_over(folder: Path) -> Callable[[], None]:
    """Save other weights over a bundle, again and again."""
    bundle = find_bundle(NAME)
    model = load_model(bundle)
    card = replace(bundle.card, bias=1.0)

    def work() -> None:
        for step in range(20):
            with torch.no_grad():
                next(model.parameters())[:] = float(step)
            save_bundle(model, card, folder)

    return work


def save_states(folder: Path) -> Callable[[], None]:
    """Write the state of a training again and again."""

    def work() -> None:
        for step in range(60):
            save_state(folder, {"weight": torch.full((500, 500), float(step))}, Progress(step=step), training={})

    return work


def check_bundle(folder: Path) -> str | None:
    """Return what is wrong with a bundle that somebody was saving when he was killed."""
    try:
        load_model(find_bundle(folder))
    except DeepfakeDetectError as error:
        return f"{type(error).__name__}: {error}"
    return None


def check_state(folder: Path) -> str | None:
    """Return what is wrong with a state of a training."""
    try:
        loaded = load_state(folder, training={})
    except DeepfakeDetectError as error:
        return f"{type(error).__name__}: {error}"
    if loaded is None:
        return "no state"
    tensors, progress = loaded
    return None if (tensors["weight"] == progress.step).all() else "weights of another step"


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="of each kind of work")
    parser.add_argument("--seconds", type=float, default=120, help="time for each kind of work")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table, rng = Table(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(find_bundle(NAME).folder, folder / "bundle")
        (folder / "state").mkdir()
        save_state(folder / "state", {"weight": torch.zeros(500, 500)}, Progress(), training={})
        works = {
            "killed in save_pretrained": (save_over(folder / "bundle"), check_bundle, folder / "bundle"),
            "killed in a training's checkpoint": (save_states(folder / "state"), check_state, folder / "state"),
        }
        for kind, (work, check, place) in works.items():
            whole_s = _run(work, seconds=None)
            for _ in until(options.seconds, range(options.kills)):
                _run(work, seconds=rng.uniform(0, whole_s))
                table.count(kind, check(place))
    return table.print()


def _run(work: Callable[[], None], *, seconds: float | None) -> float:
    """Run in a forked child, kill it after some seconds, and return how long it lived."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:  # an error, too, must not run on in a copy of this process
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the work ended with status {status}, expected 0 or a kill")
    return time.monotonic() - start


if __name__ == "__main__":
    raise SystemExit(main())
