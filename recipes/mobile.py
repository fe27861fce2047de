"""Train a small network from folded batch norms, with the scores of a large one as labels."""

from __future__ import annotations

import torch

from deepfake_detect.models.head import last_linear
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.training.crop_dataset import SELF_BLEND, CropDataset
from deepfake_detect.weights.card import Preprocessing


class Taught(CropDataset):
    """Crops whose labels are the mean of the true label and a teacher's score of the unaugmented crop.

    Each picture is scored when it is first drawn; self-blended fakes, which differ each time, keep their label.
    """

    def __init__(self, crops: CropDataset, *, teacher: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__(crops.samples, crops.store, preprocessing=crops.preprocessing, augmentation=crops.augmentation)
        self.teacher = teacher.eval().to(memory_format=torch.channels_last)
        self.plain = CropDataset(crops.samples, crops.store, preprocessing=preprocessing)
        self.scores: dict[int, float] = {}

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, float]:
        """Return crop and mixed label."""
        pixels, label = super().__getitem__(key)
        index = key[0] if isinstance(key, tuple) else key
        if self.samples[index].source == SELF_BLEND:
            return pixels, label
        if index not in self.scores:
            self.scores[index] = self._score(index)
        return pixels, (label + self.scores[index]) / 2

    def _score(self, index: int) -> float:
        batch = to_batch([self.plain[index][0].numpy()], preprocessing=self.plain.preprocessing)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return float(self.teacher(batch.contiguous(memory_format=torch.channels_last)).float().sigmoid())


def quieten_head(model: torch.nn.Module) -> None:
    """Set the head to zero, so that every logit begins at zero: features of folded norms are large."""
    _, head = last_linear(model)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)


def unfold_norms(model: torch.nn.Module, crops: CropDataset, *, count: int = 256) -> None:
    """Give batch norms that were folded into the convolutions before them the statistics of some crops.

    The outputs in evaluation mode stay the same; those in training mode become close to them.
    """
    inputs: dict[torch.nn.BatchNorm2d, list[torch.Tensor]] = {}
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(lambda n, x: inputs.setdefault(n, []).append(x[0])) for norm in norms]
    drawn = torch.randperm(len(crops.samples), generator=torch.Generator().manual_seed(0))[:count].tolist()
    pixels = torch.stack([crops[index, index][0] for index in drawn])
    with torch.inference_mode():
        model.eval()(to_batch(pixels.numpy(), preprocessing=crops.preprocessing))
    for hook in hooks:
        hook.remove()
    for norm, (maps,) in inputs.items():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        with torch.no_grad():
            norm.bias += (mean - norm.running_mean) * scale
            norm.weight.copy_(scale * (variance + norm.eps).sqrt())
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
    model.train()
