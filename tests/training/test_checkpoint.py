"""The state of a training comes back to the bit, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.training.checkpoint import STATE, Progress, load_state, save_state

TENSORS = {
    "weight": torch.arange(64.0).reshape(8, 8),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
}


def test_a_state_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path, TENSORS, Progress(step=3), training={"seed": "0"})
    loaded = load_state(tmp_path, training={"seed": "0"})
    assert loaded is not None
    tensors, progress = loaded
    assert progress.step == 3
    assert tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_one_flipped_bit_of_a_state_is_found(tmp_path: Path) -> None:
    save_state(tmp_path, TENSORS, Progress(step=3), training={"seed": "0"})
    content = (tmp_path / STATE).read_bytes()
    for byte in (*range(0, len(content), 7), len(content) - 1):
        damaged = bytearray(content)
        damaged[byte] ^= 1
        (tmp_path / STATE).write_bytes(damaged)
        with pytest.raises(WeightsMismatch, match=STATE):
            load_state(tmp_path, training={"seed": "0"})


def test_a_state_of_the_layout_without_a_checksum_still_loads(tmp_path: Path) -> None:
    metadata = {"layout": "3", "progress": '{"history": [], "step": 2}', "training": "{}"}
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / STATE, metadata=metadata)
    loaded = load_state(tmp_path, training={})
    assert loaded is not None and loaded[1].step == 2


def test_a_state_that_cannot_be_written_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not written") as caught:
        save_state(tmp_path / "gone", TENSORS, Progress(), training={})
    assert caught.value.filename == str(tmp_path / "gone" / STATE)
