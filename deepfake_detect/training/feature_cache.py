"""Compute the features of a frozen backbone once, to train the head on them."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn

from deepfake_detect.datasets.face_cache import WholePicture
from deepfake_detect.datasets.read import Sample
from deepfake_detect.engines.packed import pack
from deepfake_detect.models.head import head_of
from deepfake_detect.system.atomic import whole_file
from deepfake_detect.system.progress import progress_bar
from deepfake_detect.training.batches import Batch, CropFeed, Key
from deepfake_detect.training.checkpoint import hash_samples
from deepfake_detect.training.crop_dataset import CropDataset

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Largest difference of a feature between the packed network and the plain one, as a share of the largest feature."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureFeed:
    """Features of face crops, computed once; yields batches as `CropFeed` does.

    Attributes:
        samples: One for each picture.
        features: Inputs of the head [N, views, ...] float32, possibly a memory-mapped file.
    """

    samples: Sequence[Sample]
    features: np.ndarray

    def batches(self, keys: Sequence[Key], *, size: int) -> Iterator[Batch]:
        """Yield the features that the keys name, ``size`` pictures at once; the seed chooses the view."""
        views = self.features.shape[1]
        index = np.array([key[0] for key in keys])
        view = np.array([key[1] % views for key in keys])
        label = torch.tensor([float(sample.label) for sample in self.samples], dtype=torch.float32)
        for start in range(0, len(keys), size):
            chosen = index[start : start + size]
            yield torch.from_numpy(self.features[chosen, view[start : start + size]]), label[chosen]  # a copy


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
    """Run the backbone over every crop once, and store the inputs of the head.

    Args:
        model: Put into evaluation mode: no dropout, and batch norms with their stored statistics.
        feed: The crops.
        device: Device of the model.
        folder: Gets a file with the features, 8 kB a view for Xception, which is reused where backbone, pictures and
            settings are the same.
        dtype: float32, or the precision of automatic mixed precision.
        views: Augmented views of each crop, beside the plain one; none where the crops have no augmentation.
        seed: Random seed of the views.
        size: Crops in a batch; where None, 8 on a CPU, whose cache holds no more, and 32 elsewhere.

    Returns:
        The features, read from the file when they are needed.
    """
    views = views if feed.dataset.augmentation is not None else 0
    file = folder / f"features-{_fingerprint(model, feed, dtype, views, seed)}.npy"
    if not file.exists():
        model.eval()
        size = size or (8 if device.type == "cpu" else 32)
        keys = [(index, 0) for index in range(len(feed.samples))]
        plain = CropFeed(_plain(feed), preprocessing=feed.preprocessing, workers=feed.workers, ahead=feed.ahead)
        passes = [(plain, keys)]
        passes += [(feed, [(index, _seed(seed, view, index)) for index, _ in keys]) for view in range(views)]
        features = [_features(model, *one_pass, device=device, dtype=dtype, size=size) for one_pass in passes]
        with whole_file(file) as partial:
            _write(partial, features, count=len(keys))
    return FeatureFeed(samples=feed.samples, features=np.load(file, mmap_mode="r"))


def _plain(feed: CropFeed) -> CropDataset:
    dataset = feed.dataset
    if dataset.augmentation is None:
        return dataset
    return CropDataset(dataset.samples, dataset.store, preprocessing=dataset.preprocessing)


def _seed(seed: int, view: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, view, index]).generate_state(1, np.uint64)[0])


def _fingerprint(model: nn.Module, feed: CropFeed, dtype: torch.dtype, views: int, seed: int) -> str:
    """Return a hash of what the features depend on: the weights of the backbone, the pictures and the settings."""
    head, digest = head_of(model)[0] + ".", hashlib.sha256()
    for name, value in model.state_dict().items():
        if not name.startswith(head):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    contents = [_content(sample.image) for sample in feed.samples]
    settings = (feed.preprocessing, feed.dataset.augmentation if views else None, dtype, views, seed if views else 0)
    digest.update(repr((hash_samples(feed.samples), contents, settings)).encode())
    return digest.hexdigest()[:16]


def _content(image: Any) -> str:
    """Return what identifies the content of a picture: files of stored faces are named by a hash of it."""
    return image.key if isinstance(image, WholePicture) else str(getattr(image, "path", ""))


def _features(
    model: nn.Module, feed: CropFeed, keys: Sequence[Key], *, device: torch.device, dtype: torch.dtype, size: int
) -> Iterator[np.ndarray]:
    """Yield the inputs of the head, batch by batch; computed by the packed backbone where there is one."""
    bar = progress_bar(feed.batches(keys, size=size), total=-(-len(keys) // size), title="features", unit="batch")
    backbone: Callable[[torch.Tensor], torch.Tensor] | None = None
    for batch, _ in bar:
        with torch.inference_mode():
            backbone = backbone or _backbone(model, batch, device=device, dtype=dtype)
            features = backbone(batch)
        yield features.numpy()


def _backbone(
    model: nn.Module, batch: torch.Tensor, *, device: torch.device, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function that maps such batches to the inputs of the head."""
    plain = functools.partial(_head_input, model, device=device, dtype=dtype)
    packed = _packed(model, batch, plain, dtype=dtype) if device.type == "cpu" else None
    return packed or plain


def _head_input(model: nn.Module, batch: torch.Tensor, *, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Run the plain network, and return the input of its head."""
    inputs_of_head: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs_of_head.append(inputs[0].float().cpu())

    hook = head_of(model)[1].register_forward_pre_hook(keep)
    try:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            model(batch.to(device).contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    return inputs_of_head.pop()


def _packed(
    model: nn.Module, batch: torch.Tensor, plain: Callable[[torch.Tensor], torch.Tensor], *, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return the packed backbone, if its features of a batch equal those of the plain network."""
    backbone = copy.deepcopy(model)
    parent, _, last = head_of(backbone)[0].rpartition(".")
    setattr(backbone.get_submodule(parent), last, nn.Identity())
    packed, features = pack(backbone, batch, dtype=dtype)
    if packed is None or features is None:
        return None
    expected = plain(batch)
    if features.shape != expected.shape:
        return None
    difference = (features - expected).abs().max()
    return packed if bool(difference <= _TOLERANCE[dtype] * expected.abs().max()) else None


def _write(file: Path, views: Sequence[Iterator[np.ndarray]], *, count: int) -> None:
    """Write [count, views, ...] batch by batch, so that memory holds one batch.

    The file is written and not mapped into memory: on a full disk, a mapped page kills the process.

    Raises:
        OSError: The disk is full.
    """
    try:
        with file.open("wb") as out:
            for view, batches in enumerate(views):
                index = 0
                for features in batches:
                    shape = (count, len(views), *features.shape[1:])
                    for row in np.ascontiguousarray(features, np.float32):
                        _seek_row(out, shape, index, view)
                        out.write(row.tobytes())
                        index += 1
    except OSError as error:
        reason = f"features of the backbone not written ({error.strerror}); free some space, or choose another folder"
        raise OSError(error.errno, reason, str(file.parent)) from error


def _seek_row(out: BinaryIO, shape: tuple[int, ...], index: int, view: int) -> None:
    """Go to where a row of the array stands; the header is written before the first one."""
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    if index == view == 0:
        out.write(header.getvalue())
    row_bytes = 4 * math.prod(shape[2:])
    out.seek(len(header.getvalue()) + (index * shape[1] + view) * row_bytes)
