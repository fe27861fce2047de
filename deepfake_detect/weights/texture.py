"""Describe the second look of a detector: the network for texture, and how its logit is fused with that of the crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.weights.card_check import check_real, check_reals, check_sha256, check_text, check_whole

if TYPE_CHECKING:
    import numpy as np
    import torch

MOST_PATCHES = 9
"""Most patches that are cut out of a face."""

_Number = TypeVar("_Number", float, "np.ndarray", "torch.Tensor")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextureLook:
    """A small network that looks at patches of a face at the pixels of the original, where nothing was scaled.

    Generators leave traces in single pixels, which scaling a face to the size of the first network wipes out. The logit
    of the look is the mean over the patches. It is withheld where it would know nothing: the face is too small, or the
    patches are smooth since the picture was enlarged or blurred.

    Attributes:
        architecture: A name that ``create_model`` knows.
        patch_px: Side of a patch in pixels.
        patches: At most this many patches of a face.
        mean: Per RGB channel, subtracted after scaling to [0, 1].
        std: Per RGB channel, divided by after the subtraction.
        min_side_px: Shorter side of the face box below which the look is withheld; at least ``patch_px``.
        min_detail: Share of high frequencies below which the look is withheld; see `detail_of`. 0 withholds never.
        weight: Factor of what the texture's logit adds to that of the crop.
        unsure: Interval of texture logits that add nothing; beyond it, the distance to it counts. Of pictures that were
            made smaller, the network knows no better than that.
        sha256: Of ``texture.safetensors``, in hexadecimal.

    Example:
        >>> look = TextureLook(architecture="cnn4", patch_px=64, min_side_px=64, weight=2.0, unsure=(-1.0, 1.0))
        >>> look.fuse(3.0, 1.5), look.fuse(3.0, -0.5), look.fuse(3.0, -2.0), look.fuse(3.0, None)
        (4.0, 3.0, 1.0, 3.0)
    """

    architecture: str
    patch_px: int = 128
    patches: int = 4
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    min_side_px: int = 128
    min_detail: float = 0.0
    weight: float = 1.0
    unsure: tuple[float, float] = (0.0, 0.0)
    sha256: str = ""

    def __post_init__(self) -> None:
        check_text("texture.architecture", self.architecture)
        check_whole("texture.patch_px", self.patch_px, low=8, high=1024)
        check_whole("texture.patches", self.patches, low=1, high=MOST_PATCHES)
        check_reals("texture.mean", self.mean, count=3, low=-1000, high=1000)
        check_reals("texture.std", self.std, count=3, low=1e-6, high=1000)
        check_whole("texture.min_side_px", self.min_side_px, low=self.patch_px, high=10**6)
        check_real("texture.min_detail", self.min_detail, low=0, high=1)
        check_real("texture.weight", self.weight, low=0, high=1e3)
        check_reals("texture.unsure", self.unsure, count=2, low=-1e3, high=1e3)
        if self.unsure[0] > self.unsure[1]:
            raise WeightsMismatch(f"texture.unsure is {self.unsure}, expected the lower of two logits first")
        check_sha256("texture.sha256", self.sha256)

    def fuse(self, crop: _Number, texture: float | None) -> _Number:
        """Fuse the logits of the two looks; the card's temperature and bias apply to the result.

        Args:
            crop: Logit of the crop: a number, an array or a tensor.
            texture: Logit of the texture; None where it is withheld.

        Returns:
            ``crop + weight * (distance of texture to unsure)``; ``crop`` where it is withheld.
        """
        return crop if texture is None else crop + self.added(texture)

    def added(self, texture: float) -> float:
        """Return what a logit of the texture adds to that of the crop."""
        low, high = self.unsure
        return self.weight * (texture - min(max(texture, low), high))
