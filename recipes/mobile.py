"""How does a small network begin with folded norms, and learn from a large one?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from deepfake_detect.card import Preprocessing
from deepfake_detect.crops import SELF_BLEND, CropDataset
from deepfake_detect.loader import CropFeed
from deepfake_detect.preprocess import to_batch


class Taught(CropDataset):
    """Crops whose labels are mixed with a teacher's scores."""

    def __init__(self, crops: CropDataset, *, scores: Sequence[float]) -> None:
        super().__init__(crops.samples, crops.store, preprocessing=crops.preprocessing, augmentation=crops.augmentation)
        self.scores = scores

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, float]:
        """Give crop and mixed label."""
        pixels, label = super().__getitem__(key)
        score = self.scores[key[0] if isinstance(key, tuple) else key]
        return pixels, label if math.isnan(score) else (label + score) / 2


def scores_of(teacher: torch.nn.Module, crops: CropDataset, *, preprocessing: Preprocessing) -> list[float]:
    """Score crops as in use; not a number for those that are blended anew each time."""
    plain = CropDataset(crops.samples, crops.store, preprocessing=preprocessing)
    chosen = [index for index, sample in enumerate(crops.samples) if sample.source != SELF_BLEND]
    scores = [math.nan] * len(crops.samples)
    teacher = teacher.eval().to(memory_format=torch.channels_last)
    feed = CropFeed(plain, preprocessing=preprocessing)
    said: list[float] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch, _ in feed.batches([(index, 0) for index in chosen], size=64):
            said += teacher(batch.contiguous(memory_format=torch.channels_last)).float().sigmoid().tolist()
    for index, score in zip(chosen, said, strict=True):
        scores[index] = score
    return scores


def unfold_norms(model: torch.nn.Module, crops: CropDataset, *, count: int = 256) -> None:
    """Give batch norms that were folded into the convolutions before them the statistics of some crops.

    What the model says in evaluation mode stays the same; in training mode it is close to that now.
    """
    seen: dict[torch.nn.BatchNorm2d, list[torch.Tensor]] = {}
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(lambda n, x: seen.setdefault(n, []).append(x[0])) for norm in norms]
    drawn = torch.randperm(len(crops.samples), generator=torch.Generator().manual_seed(0))[:count].tolist()
    pixels = torch.stack([crops[index, index][0] for index in drawn])
    with torch.inference_mode():
        model.eval()(to_batch(pixels.numpy(), preprocessing=crops.preprocessing))
    for hook in hooks:
        hook.remove()
    for norm, (maps,) in seen.items():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        with torch.no_grad():
            norm.bias += (mean - norm.running_mean) * scale
            norm.weight.copy_(scale * (variance + norm.eps).sqrt())
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
    model.train()
