"""How is a head taught without running the frozen backbone again and again?"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from deepfake_detect.datasets.read import Sample
from deepfake_detect.engines.packed import pack
from deepfake_detect.models.head import head_of
from deepfake_detect.training.batches import Batch, CropFeed, Key
from deepfake_detect.training.checkpoint import hash_samples
from deepfake_detect.training.crop_dataset import CropDataset

_APART = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""How far a feature of the packed twin may lie from that of the network, as a share of the largest one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureFeed:
    """Features of face crops, computed once; gives batches as `CropFeed` does.

    Attributes:
        samples: One for each picture.
        features: [N, views, ...] float32: what the head gets. May be a file that stays on disk.
    """

    samples: Sequence[Sample]
    features: np.ndarray

    def batches(self, keys: Sequence[Key], *, size: int) -> Iterator[Batch]:
        """Give the features that the keys name, ``size`` pictures at once; the seed chooses the view."""
        views = self.features.shape[1]
        index = np.array([key[0] for key in keys])
        view = np.array([key[1] % views for key in keys])
        label = torch.tensor([float(sample.label) for sample in self.samples])
        for start in range(0, len(keys), size):
            chosen = index[start : start + size]
            some = self.features[chosen, view[start : start + size]]  # a copy
            yield torch.from_numpy(some), label[chosen]


def cache_features(
    model: nn.Module,
    feed: CropFeed,
    *,
    device: torch.device,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    views: int = 0,
    seed: int = 0,
    size: int | None = None,
) -> FeatureFeed:
    """Run the backbone over every crop once, and keep what the head gets.

    Args:
        model: Put into evaluation mode: no dropout, and batch norms with the statistics that they have.
        feed: Of crops.
        device: Where the model is.
        folder: Gets a file with the features, 8 kB a view for Xception, which is used again where backbone, pictures
            and settings are the same.
        dtype: float32, or what automatic mixed precision computes in.
        views: Augmented views of each crop, beside the plain one; none where the crops have no augmentation.
        seed: Of the views.
        size: Crops at once; where None, 8 on a processor, whose cache holds no more, and 32 elsewhere.

    Returns:
        The features, read from the file as they are asked for.
    """
    views = views if feed.dataset.augmentation is not None else 0
    file = folder / f"features-{_fingerprint(model, feed, dtype, views, seed)}.npy"
    if not file.exists():
        model.eval()
        size = size or (8 if device.type == "cpu" else 32)
        keys = [(index, 0) for index in range(len(feed.samples))]
        plain = CropFeed(_plain(feed), preprocessing=feed.preprocessing, workers=feed.workers, ahead=feed.ahead)
        turns = [(plain, keys)]
        turns += [(feed, [(index, _seed(seed, view, index)) for index, _ in keys]) for view in range(views)]
        partial = file.with_name(f"{file.name}.partial")
        _write(
            partial, [_features(model, *turn, device=device, dtype=dtype, size=size) for turn in turns], count=len(keys)
        )
        os.replace(partial, file)
    return FeatureFeed(samples=feed.samples, features=np.load(file, mmap_mode="r"))


def _plain(feed: CropFeed) -> CropDataset:
    dataset = feed.dataset
    if dataset.augmentation is None:
        return dataset
    return CropDataset(dataset.samples, dataset.store, preprocessing=dataset.preprocessing)


def _seed(seed: int, view: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, view, index]).generate_state(1, np.uint64)[0])


def _fingerprint(model: nn.Module, feed: CropFeed, dtype: torch.dtype, views: int, seed: int) -> str:
    """Name what the features depend on: the backbone's weights, the pictures, and how they are changed."""
    head, found = head_of(model)[0] + ".", hashlib.sha256()
    for name, value in model.state_dict().items():
        if not name.startswith(head):
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    kept = [str(getattr(sample.image, "path", "")) for sample in feed.samples]  # named by what is in the picture
    settings = (feed.preprocessing, feed.dataset.augmentation if views else None, dtype, views, seed if views else 0)
    found.update(repr((hash_samples(feed.samples), kept, settings)).encode())
    return found.hexdigest()[:16]


def _features(
    model: nn.Module, feed: CropFeed, keys: Sequence[Key], *, device: torch.device, dtype: torch.dtype, size: int
) -> Iterator[np.ndarray]:
    """Give what the head gets, batch by batch; by the packed twin of the backbone where there is one."""
    bar = tqdm(feed.batches(keys, size=size), total=-(-len(keys) // size), desc="features", leave=False, disable=None)
    backbone: Callable[[torch.Tensor], torch.Tensor] | None = None
    for batch, _ in bar:
        with torch.inference_mode():
            backbone = backbone or _backbone(model, batch, device=device, dtype=dtype)
            found = backbone(batch)
        yield found.numpy()


def _backbone(
    model: nn.Module, batch: torch.Tensor, *, device: torch.device, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Choose what maps such batches to what the head gets."""
    plain = functools.partial(_caught, model, device=device, dtype=dtype)
    twin = _packed(model, batch, plain, dtype=dtype) if device.type == "cpu" else None
    return twin or plain


def _caught(model: nn.Module, batch: torch.Tensor, *, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Run the whole network as it is, and catch what its head gets."""
    caught: list[torch.Tensor] = []
    hook = head_of(model)[1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float().cpu()))
    try:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            model(batch.to(device).contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    return caught.pop()


def _packed(
    model: nn.Module, batch: torch.Tensor, plain: Callable[[torch.Tensor], torch.Tensor], *, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Give the packed twin of the backbone, if it says the same of a batch as the network does."""
    backbone = copy.deepcopy(model)
    parent, _, last = head_of(backbone)[0].rpartition(".")
    setattr(backbone.get_submodule(parent), last, nn.Identity())
    twin, found = pack(backbone, batch, dtype=dtype)
    if twin is None or found is None:
        return None
    wanted = plain(batch)
    same = found.shape == wanted.shape and bool((found - wanted).abs().max() <= _APART[dtype] * wanted.abs().max())
    return twin if same else None


def _write(file: Path, turns: Sequence[Iterator[np.ndarray]], *, count: int) -> None:
    """Write [count, views, ...] batch by batch, so that memory holds one batch."""
    stored: np.memmap[Any, np.dtype[np.float32]] | None = None
    for view, batches in enumerate(turns):
        start = 0
        for some in batches:
            if stored is None:
                shape = (count, len(turns), *some.shape[1:])
                stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
            stored[start : start + len(some), view] = some
            start += len(some)
    if stored is not None:
        stored.flush()
