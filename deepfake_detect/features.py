"""How is a head taught without running the frozen backbone again and again?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from deepfake_detect.crops import CropDataset
from deepfake_detect.data import Sample
from deepfake_detect.loader import Batch, CropFeed, Key
from deepfake_detect.models.head import head_of


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureFeed:
    """Features of face crops, computed once; gives batches as `CropFeed` does.

    Attributes:
        samples: One for each picture.
        features: [N, views, ...] float32: what the head gets.
    """

    samples: Sequence[Sample]
    features: torch.Tensor

    def batches(self, keys: Sequence[Key], *, size: int) -> Iterator[Batch]:
        """Give the features that the keys name, ``size`` pictures at once; the seed chooses the view."""
        views = self.features.shape[1]
        index = np.array([key[0] for key in keys])
        view = np.array([key[1] % views for key in keys])
        label = torch.tensor([float(sample.label) for sample in self.samples])
        for start in range(0, len(keys), size):
            chosen = index[start : start + size]
            yield self.features[chosen, view[start : start + size]], label[chosen]


def cache_features(
    model: nn.Module,
    feed: CropFeed,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    views: int = 0,
    seed: int = 0,
    size: int = 32,
) -> FeatureFeed:
    """Run the backbone over every crop once, and keep what the head gets.

    Args:
        model: Put into evaluation mode: no dropout, and batch norms with the statistics that they have.
        feed: Of crops.
        device: Where the model is.
        dtype: float32, or what automatic mixed precision computes in.
        views: Augmented views of each crop, beside the plain one; none where the crops have no augmentation.
        seed: Of the views.
        size: Crops at once.

    Returns:
        The features, in memory: for Xception 8 kB a view.
    """
    views = views if feed.dataset.augmentation is not None else 0
    plain = CropFeed(_plain(feed), preprocessing=feed.preprocessing, workers=feed.workers)
    passes = [(plain, 0), *((feed, seed + 1 + number) for number in range(views))]
    model.eval()
    seen = [_features(model, one, start, device=device, dtype=dtype, size=size) for one, start in passes]
    return FeatureFeed(samples=feed.samples, features=torch.stack(seen, dim=1))


def _plain(feed: CropFeed) -> CropDataset:
    dataset = feed.dataset
    if dataset.augmentation is None:
        return dataset
    return CropDataset(dataset.samples, dataset.store, preprocessing=dataset.preprocessing)


def _features(
    model: nn.Module, feed: CropFeed, seed: int, *, device: torch.device, dtype: torch.dtype, size: int
) -> torch.Tensor:
    caught: list[torch.Tensor] = []
    hook = head_of(model)[1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float().cpu()))
    keys = [(index, seed * len(feed.samples) + index) for index in range(len(feed.samples))]
    bar = tqdm(feed.batches(keys, size=size), total=-(-len(keys) // size), desc="features", leave=False, disable=None)
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for batch, _ in bar:
                model(batch.to(device).contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    return torch.cat(caught).clone()
