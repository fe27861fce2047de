"""Draw the pictures of a batch of the flagship: fakes, each with a real picture beside it.

Half of a batch is fake. A source is drawn first, then a group, then one of its pictures, so that neither a large
collection nor a video with many copies dominates. Each fake is paired with a real picture that is drawn in the same
way: its original where that is known, else one of a source that looks alike, at times one of any source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from deepfake_detect.training.crop_dataset import SELF_BLEND
from recipes.face_table import KeptFace

FAKES = {
    "dfdc": 22.0, "ciplab": 12.0, "ffhq140k": 11.0, "stylegan3": 4.0, "tpdne": 5.0, "genphotos": 4.0, "sfhq-t2i": 6.0,
    "sd14": 4.0, "sd-men": 1.5, "gpt-gallery": 9.0, "inswapper": 4.0, "lfw-faceswap": 3.0, "openforensics": 1.5,
    SELF_BLEND: 5.0, "decoder": 6.0, "up-sampler": 6.0, "part-swap": 12.0, "morph": 3.0, "drawing": 2.5,
}  # fmt: skip
"""How often a fake of a source is drawn, in proportion; the last five are `forge`'s."""

REALS = {
    "dfdc": 22.0, "ciplab": 10.0, "ffhq140k": 14.0, "mebeauty": 12.0, "utkface": 7.0, "unsplash-men": 6.0,
    "headshots": 6.0, "phone": 6.0, "lfw-faceswap": 3.0, "inswapper": 3.0, "openforensics": 3.0, "caltech": 3.0,
    "london": 2.0, "canada": 1.0, "3dsk": 1.0, "pixabay": 0.5,
}  # fmt: skip
"""How often a real picture of a source is drawn where nothing asks for a certain one."""

_PORTRAITS = ("mebeauty", "unsplash-men", "ffhq140k", "phone", "utkface")
ALIKE = {
    "stylegan3": ("ffhq140k",),
    "tpdne": ("ffhq140k", "mebeauty"),
    "genphotos": ("headshots", "london", "canada", "3dsk", "mebeauty"),
    "sfhq-t2i": _PORTRAITS,
    "sd14": _PORTRAITS,
    "sd-men": ("unsplash-men", "mebeauty", "headshots"),
    "gpt-gallery": ("mebeauty", "unsplash-men", "london", "phone", "3dsk", "pixabay"),
    "inswapper": ("inswapper", "ffhq140k"),
}
"""Sources of photographs that stand beside fakes of another source; elsewhere those of the source itself do."""

ANY = 0.25
"""Share of the fakes beside which a photograph of any source stands, but for those whose own is known."""

Pair = tuple[KeptFace, KeptFace]


class Mixture:
    """Pictures in the order of source, label and group.

    Args:
        faces: To draw from; their split is not looked at.
        fakes: How often a fake of a source is drawn, in proportion.

    Raises:
        ValueError: There is no real or no fake picture.
    """

    def __init__(self, faces: Iterable[KeptFace], *, fakes: Mapping[str, float] = FAKES) -> None:
        grouped: dict[tuple[str, int], dict[str, list[KeptFace]]] = defaultdict(lambda: defaultdict(list))
        for face in faces:
            grouped[face.source, face.label][face.group or face.name].append(face)
        self._groups = {key: list(groups.values()) for key, groups in grouped.items()}
        self._reals = {key[0]: dict(groups) for key, groups in grouped.items() if key[1] == 0}
        self.fakes = _shares(fakes, [source for source, label in grouped if label == 1] + [SELF_BLEND])
        self.reals = _shares(REALS, self._reals)
        if not self.reals or not any(label for _, label in grouped):
            raise ValueError(f"a mixture needs fake and real pictures, found {sorted(grouped)}; find faces first")

    def draw(self, count: int, random: np.random.Generator) -> list[Pair]:
        """Draw so many fakes, a real picture beside each."""
        names, share = list(self.fakes), list(self.fakes.values())
        return [self._pair(names[index], random) for index in random.choice(len(names), count, p=share)]

    def _pair(self, source: str, random: np.random.Generator) -> Pair:
        if source == SELF_BLEND:
            real = self._one(self._any(random), 0, random)
            return replace(real, label=1, source=SELF_BLEND, generator=SELF_BLEND), real
        fake = self._one(source, 1, random)
        originals = self._reals.get(source, {}).get(fake.group or fake.name)
        if originals:
            folder = fake.name.partition("/")[0]  # the same picture may be there in two sizes
            near = [face for face in originals if face.name.startswith(f"{folder}/")] or originals
            return fake, near[random.integers(len(near))]
        alike = [name for name in ALIKE.get(source, (source,)) if name in self._reals]
        other = alike[random.integers(len(alike))] if alike and random.random() >= ANY else self._any(random)
        return fake, self._one(other, 0, random)

    def _any(self, random: np.random.Generator) -> str:
        return list(self.reals)[random.choice(len(self.reals), p=list(self.reals.values()))]

    def _one(self, source: str, label: int, random: np.random.Generator) -> KeptFace:
        groups = self._groups[source, label]
        group = groups[random.integers(len(groups))]
        return group[random.integers(len(group))]


def _shares(shares: Mapping[str, float], sources: Iterable[str]) -> dict[str, float]:
    known = {name: shares[name] for name in shares if name in set(sources)}
    return {name: value / sum(known.values()) for name, value in known.items()}
