"""Test that a bundle with a replaced head is byte for byte the one that is written as a whole."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.models.head import head_of
from deepfake_detect.models.registry import create_model
from deepfake_detect.weights.head_bundle import HeadBundle
from deepfake_detect.weights.load import load_model, save_bundle
from tests.toy import CARD

Head = dict[str, torch.Tensor]

ENDS = [
    "cnn-simple",
    "cnn4",
    "meso4",
    "cnn4/8",
    "timm:test_efficientnet",
]  # of one layer, of several, in the middle of the file


def heads(model: torch.nn.Module, count: int) -> list[Head]:
    """Draw heads of other weights."""
    some, random = head_of(model)[1].state_dict(), torch.Generator().manual_seed(0)
    return [
        {name: torch.randn(value.shape, generator=random).to(value.dtype) for name, value in some.items()}
        for _ in range(count)
    ]


def toy(architecture: str, folder: Path) -> tuple[torch.nn.Module, HeadBundle]:
    model = create_model(architecture, seed=0)
    return model, HeadBundle(model, replace(CARD, architecture=architecture), folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wholes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a bundle is written as a whole."""
    calls: list[int] = []
    monkeypatch.setattr(
        "deepfake_detect.weights.head_bundle.save_bundle",
        lambda *args, **more: calls.append(1) or save_bundle(*args, **more),
    )
    return calls


@pytest.mark.parametrize("architecture", ENDS)
def test_every_writing_is_that_of_the_whole(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = wholes(monkeypatch)
    model, bundle = toy(architecture, tmp_path / "quick")
    for head in heads(model, 3):
        whole = copy.deepcopy(model)
        head_of(whole)[1].load_state_dict(head)
        save_bundle(whole, replace(CARD, architecture=architecture), tmp_path / "whole", half=False)
        bundle.write(head)
        assert files(tmp_path / "quick") == files(tmp_path / "whole")
        assert (tmp_path / "quick" / "model.safetensors").stat().st_mode == (
            tmp_path / "whole" / "model.safetensors"
        ).stat().st_mode
        loaded = load_model(tmp_path / "quick").state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in whole.state_dict().items())
    assert len(calls) == 1


def test_what_somebody_else_wrote_is_not_built_upon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = wholes(monkeypatch)
    model, bundle = toy("cnn-simple", tmp_path)
    first, second, third, fourth, fifth = heads(model, 5)
    bundle.write(first)
    other = create_model("cnn-simple", seed=5)
    save_bundle(other, CARD, tmp_path, half=False)
    for count, head in ((2, second), (2, third)):
        bundle.write(head)
        assert len(calls) == count
        assert not torch.equal(next(load_model(tmp_path).parameters()), next(other.parameters()))
    (tmp_path / "model.safetensors").unlink()
    bundle.write(fourth)
    assert len(calls) == 3
    shutil.copyfile(tmp_path / "model.safetensors", tmp_path / "copy")
    os.replace(tmp_path / "copy", tmp_path / "model.safetensors")  # the same bytes, from somebody else
    bundle.write(fifth)
    assert len(calls) == 4
    assert torch.equal(head_of(load_model(tmp_path))[1].state_dict()["weight"], fifth["weight"])


def test_a_head_that_is_no_number_is_refused_and_the_bundle_stays(tmp_path: Path) -> None:
    model, bundle = toy("cnn-simple", tmp_path)
    first, second, third = heads(model, 3)
    bundle.write(first)
    bundle.write(second)
    before = files(tmp_path)
    with pytest.raises(WeightsMismatch, match="not finite"):
        bundle.write({name: value / 0 for name, value in third.items()})
    assert files(tmp_path) == before
    bundle.write(third)
    assert torch.equal(head_of(load_model(tmp_path))[1].state_dict()["weight"], third["weight"])


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_cut_off_at_a_rename_it_leaves_the_old_or_the_new_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    model, bundle = toy("cnn-simple", tmp_path)
    first, second, third = heads(model, 3)
    bundle.write(first)
    before, replace_file, calls = files(tmp_path), os.replace, list[int]()

    def cut(*paths: str) -> None:
        calls.append(1)
        if len(calls) == moment:
            raise OSError(28, "no space left on device")
        replace_file(*paths)

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(OSError, match="no space"):
        bundle.write(second)
    if moment < 3:
        assert files(tmp_path) == before
    kept = head_of(load_model(tmp_path))[1].state_dict()["weight"]
    assert torch.equal(kept, (first if moment < 3 else second)["weight"])
    monkeypatch.setattr(os, "replace", replace_file)
    bundle.write(third)
    assert torch.equal(head_of(load_model(tmp_path))[1].state_dict()["weight"], third["weight"])
    assert set(files(tmp_path)) == set(before)
