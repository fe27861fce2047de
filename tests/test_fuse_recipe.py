"""Test how the recipe chooses when a texture look is withheld, on made-up logits."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.small_world import LOOK

sys.path.append(str(Path(__file__).resolve().parent.parent))  # the recipes are no part of the wheel

from recipes.fuse import Seen, choose, left_out, loss

ANY = replace(LOOK, patch_px=128, min_side_px=128, weight=1.0, unsure=(0.0, 0.0))


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Give faces whose texture tells all from 192 px on and misleads below, one source the more frequent."""
    random = np.random.default_rng(0)
    label, side = np.arange(600) % 2, random.uniform(64, 400, 600)
    texture = np.where(side < 192, random.normal(0.5 - label, 1.0), random.normal(6.0 * label - 3.0, 1.0))
    texture[side < 128] = np.nan
    return Seen(
        crop=random.normal(2.0 * label - 1.0, 1.0), texture=texture, side=side, label=label,
        detail=np.where(side < 128, np.nan, random.uniform(0, 0.1, 600)), group=np.arange(600),
        source=np.where(random.random(600) < 0.8, "a", "b"),
    )  # fmt: skip


def test_the_look_is_withheld_from_faces_that_it_misleads_on(seen: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    look = choose(seen, ANY)
    assert look.min_side_px == 192 and look.min_detail == 0.0 and look.weight > 1.0
    assert loss(left_out(seen, look), seen) < loss(left_out(seen, None), seen) - 0.1
    assert "crop alone" in capsys.readouterr().out


def test_fused_logits_are_those_of_the_card(seen: Seen) -> None:
    look = replace(ANY, min_side_px=256, min_detail=0.05, weight=0.75, unsure=(-1.0, 0.5))
    expected = []
    for crop, texture, side, detail in zip(seen.crop, seen.texture, seen.side, seen.detail, strict=True):
        kept = side >= 256 and detail >= 0.05
        expected.append(look.fuse(float(crop), float(texture) if kept else None))
    assert seen.fused(look) == pytest.approx(expected)
    assert len({round(value, 9) for value in seen.fused(look) - seen.crop}) > 50


def test_every_source_and_class_counts_the_same(seen: Seen) -> None:
    sums = [seen.weight[(seen.source == s) & (seen.label == y)].sum() for s in "ab" for y in (0, 1)]
    assert sums == pytest.approx([0.25] * 4)
