"""Choose the pictures that each detector is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import folds
from deepfake_detect.training.crop_dataset import self_blended

FAMILIES = {
    "video-swap": ("dfdc",),
    "photoshop": ("ciplab",),
    "gan": ("ffhq140k", "stylegan3", "genphotos"),
    "diffusion": ("sfhq-t2i", "sd14"),
    "still-swap": ("inswapper", "lfw-faceswap"),
}
"""The ways to forge a face, and the sources of each."""

PLAIN_OUT = {
    "video-swap": ("mebeauty",),
    "photoshop": ("phone",),
    "gan": ("headshots", "caltech"),  # genphotos have the grey background of headshots
    "diffusion": ("unsplash-men",),
    "still-swap": ("utkface",),
}
"""Sources of photographs alone that are left out together with a family."""

MADE_UP_FROM = ("dfdc", "ciplab", "ffhq140k", "lfw-faceswap", "openforensics")
"""Sources whose real pictures made-up fakes are made of."""

IN_FOLDS = ("inswapper",)
"""Sources so small that they are measured in folds."""

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Diet:
    """Which pictures are learned from.

    Attributes:
        fakes: Real fakes too, not made-up ones alone.
        blends_every: So many real pictures give one self-blended fake; 0 makes none.
        twins: Photographs and their forged twins too, forged in these ways.
        without: A family of which no fake is seen; its real pictures all give a self-blended fake. No picture is seen
            of the plain sources that go with it.
        fold: Of `IN_FOLDS`, this fold is left out; all others are seen, whatever their split and ``without``.
        shuffled: The labels mean nothing: what is learned from them is a leak.
    """

    fakes: bool = True
    blends_every: int = 6
    twins: tuple[str, ...] = ("levelled",)
    without: str = ""
    fold: int | None = None
    shuffled: bool = False

    def training(self, data: Path, twins: Path) -> list[Sample]:
        """List the pictures to learn from."""
        known = read_dataset(data / "manifest.csv")
        chosen = [s for s in known if self._seen(s)]
        if self.fold is not None:
            chosen = [s for s in chosen if s.source not in IN_FOLDS] + self.in_fold(known, left_out=False)
        if not self.fakes:
            chosen = [s for s in chosen if s.label == 0 and s.source in MADE_UP_FROM]
        forged = FAMILIES.get(self.without, ())
        reals = [s for s in chosen if s.label == 0]
        blended = [s for s in reals if s.source in forged] + (reals[:: self.blends_every] if self.blends_every else [])
        return [*chosen, *self_blended(blended), *_twins(twins, self.twins)]

    def in_fold(self, known: Sequence[Sample], *, left_out: bool) -> list[Sample]:
        """List the pictures of `IN_FOLDS` that this fold leaves out, or those that it does not."""
        found = []
        for source in IN_FOLDS:
            own = [s for s in known if s.source == source]
            found += [s for s, fold in zip(own, folds(own, FOLDS), strict=True) if (fold == self.fold) == left_out]
        return found

    def _seen(self, sample: Sample) -> bool:
        if sample.split != "train" or sample.source in PLAIN_OUT.get(self.without, ()):
            return False
        forged = sample.source in FAMILIES.get(self.without, ())
        return not forged or (
            sample.label == 0 and sample.source not in IN_FOLDS
        )  # folds hold their real pictures back


def _twins(folder: Path, ways: Sequence[str]) -> list[Sample]:
    """List the twins, each way a source of its own."""
    tables = [table for way in ways for table in sorted(folder.glob(f"{way}-*/manifest.csv"))]
    return [replace(sample, split="train") for table in tables for sample in read_dataset(table)]
