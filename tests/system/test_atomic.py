"""Test that a file is replaced whole or not at all, wherever the package replaces one, and whatever fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepfake_detect.cli import command_download, resume
from deepfake_detect.datasets import face_cache
from deepfake_detect.system.atomic import remove_leftovers, whole_file
from deepfake_detect.training import feature_cache
from deepfake_detect.training.checkpoint import STATE, Progress, save_state
from deepfake_detect.training.history import HISTORY, write_history
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.load import write_file

OLD = b"what stood there before"


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def history(folder: Path, _: Any) -> Path:
    write_history(folder, ())
    return folder / HISTORY


def state(folder: Path, _: Any) -> Path:
    save_state(folder, {"weight": torch.ones(2)}, Progress(), training={})
    return folder / STATE


def crops(folder: Path, _: Any) -> Path:
    face_cache._keep(folder / "faces.npz", (8, 8), ())
    return folder / "faces.npz"


def features(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    class Feed:
        samples = (1, 2)
        dataset: Any = type("Dataset", (), {"augmentation": None})
        preprocessing = workers = ahead = None

    monkeypatch.setattr(feature_cache, "_fingerprint", lambda *_: "0")
    monkeypatch.setattr(feature_cache, "CropFeed", lambda *_, **__: None)
    monkeypatch.setattr(feature_cache, "_features", lambda *_, **__: iter([np.ones((2, 3), np.float32)]))
    feature_cache.cache_features(torch.nn.Identity(), Feed(), device=torch.device("cpu"), folder=folder)  # type: ignore[arg-type]
    return folder / "features-0.npy"


def download(folder: Path, _: Any) -> Path:
    command_download._copy(find_bundle("meso4-fakefaces"), folder)
    return folder / "model.safetensors"


def results(folder: Path, _: Any) -> Path:
    form: Any = type("Form", (), {"columns": ()})
    with resume.ResultFile(folder / "scores.jsonl", form=form, settings=""):
        pass
    return folder / "scores.jsonl"


def exported(folder: Path, _: Any) -> Path:
    write_file(folder / "model.onnx", b"new")
    return folder / "model.onnx"


WRITERS: list[Callable[[Path, Any], Path]] = [history, state, crops, features, download, results, exported]


@pytest.mark.parametrize("fault", [full, interrupted])
@pytest.mark.parametrize("write", WRITERS)
def test_a_fault_leaves_the_old_file_and_nothing_else(
    write: Callable[[Path, Any], Path], fault: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    name = write(tmp_path / "first", monkeypatch).name
    again = tmp_path / "again"
    again.mkdir()
    if write is not features and write is not results:  # which keep to a file that is there
        (again / name).write_bytes(OLD)
    before = {path.name: path.read_bytes() for path in again.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("deepfake_detect.system.atomic.os.replace", fault)
        with pytest.raises((OSError, KeyboardInterrupt)):
            write(again, patch)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == before


@pytest.mark.parametrize("what", ["write", "fsync", "replace"])
def test_every_step_may_fail(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "note.txt"
    target.write_bytes(OLD)
    if what == "write":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr(os, what, full)
    with pytest.raises(OSError, match="No space left"):
        write_file(target, b"half")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    assert target.read_bytes() == OLD


def test_what_is_not_to_last_is_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with whole_file(tmp_path / "cache", flush=False) as partial:
        partial.write_bytes(b"quick")
    assert (tmp_path / "cache").read_bytes() == b"quick"


def test_long_names_in_any_script(tmp_path: Path) -> None:
    name = "𝟘" * 60 + ".json"
    with whole_file(tmp_path / name) as partial:
        partial.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    killed = tmp_path / "state.[1]"
    killed.write_bytes(OLD)
    writing = whole_file(killed)
    writing.__enter__().write_bytes(b"half")  # and never ends
    others = [killed.with_name(".0123456789ab-state.2"), killed.with_name(".profile-state.[1]")]
    for other in others:
        other.write_bytes(OLD)
    assert len(list(killed.parent.iterdir())) == 4
    remove_leftovers(killed)
    assert sorted(path.name for path in killed.parent.iterdir()) == sorted(p.name for p in [killed, *others])
    assert killed.read_bytes() == OLD
