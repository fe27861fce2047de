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
"""Families of forgeries, and the sources of each."""

PLAIN_OUT = {
    "video-swap": ("mebeauty",),
    "photoshop": ("phone",),
    "gan": ("headshots", "caltech"),  # genphotos have the grey background of headshots
    "diffusion": ("unsplash-men",),
    "still-swap": ("utkface",),
}
"""Sources without fakes that are left out together with a family."""

MADE_UP_FROM = ("dfdc", "ciplab", "ffhq140k", "lfw-faceswap", "openforensics")
"""Sources whose real pictures are forged."""

IN_FOLDS = ("inswapper",)
"""Sources that are measured by cross-validation, since they are small."""

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class TrainingPictures:
    """The pictures that a detector is trained on.

    Attributes:
        fakes: Whether fakes of the data set are used; else only forged copies and self-blended fakes.
        blends_every: One in this number of real pictures also gives a self-blended fake; 0 makes none.
        forged_by: Ways in which photographs are forged; both the photographs and the forged copies are used.
        without: A family whose fakes are left out, with the sources that `PLAIN_OUT` names for it; each of its real
            pictures gives a self-blended fake.
        fold: The fold of `IN_FOLDS` that is left out; all other folds are used, whatever their split and ``without``.
        shuffled: Whether labels are permuted: a detector that then does better than chance shows a leak.
    """

    fakes: bool = True
    blends_every: int = 6
    forged_by: tuple[str, ...] = ("levelled",)
    without: str = ""
    fold: int | None = None
    shuffled: bool = False

    def training(self, data: Path, copies: Path) -> list[Sample]:
        """List the pictures to train on."""
        known = read_dataset(data / "manifest.csv")
        chosen = [s for s in known if self._is_used(s)]
        if self.fold is not None:
            chosen = [s for s in chosen if s.source not in IN_FOLDS] + self.in_fold(known, left_out=False)
        if not self.fakes:
            chosen = [s for s in chosen if s.label == 0 and s.source in MADE_UP_FROM]
        forged = FAMILIES.get(self.without, ())
        reals = [s for s in chosen if s.label == 0]
        blended = [s for s in reals if s.source in forged] + (reals[:: self.blends_every] if self.blends_every else [])
        return [*chosen, *self_blended(blended), *_forged_copies(copies, self.forged_by)]

    def in_fold(self, known: Sequence[Sample], *, left_out: bool) -> list[Sample]:
        """List the pictures of `IN_FOLDS` that are in this fold (``left_out``), or those in the other folds."""
        samples = []
        for source in IN_FOLDS:
            of_source = [s for s in known if s.source == source]
            numbered = zip(of_source, folds(of_source, FOLDS), strict=True)
            samples += [s for s, fold in numbered if (fold == self.fold) == left_out]
        return samples

    def _is_used(self, sample: Sample) -> bool:
        if sample.split != "train" or sample.source in PLAIN_OUT.get(self.without, ()):
            return False
        forged = sample.source in FAMILIES.get(self.without, ())
        return not forged or (
            sample.label == 0 and sample.source not in IN_FOLDS
        )  # real pictures of folds must not be used either


def _forged_copies(folder: Path, ways: Sequence[str]) -> list[Sample]:
    """List the forged copies and their originals; each way of forging is a source of its own."""
    tables = [table for way in ways for table in sorted(folder.glob(f"{way}-*/manifest.csv"))]
    return [replace(sample, split="train") for table in tables for sample in read_dataset(table)]
