"""Build the model and the card that a training starts from."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from types import NoneType
from typing import Any

import safetensors.torch
import torch

from deepfake_detect._options import check_type, output_folder, real_number, whole_number
from deepfake_detect.errors import HubUnavailable, InvalidOption
from deepfake_detect.models.registry import create_model, imagenet_home, native_mean_std, native_size_px
from deepfake_detect.models.transfer import take_over
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.card import CARD_FILE, DETECTS, WEIGHTS_FILE, Card, Preprocessing
from deepfake_detect.weights.hub import download_file
from deepfake_detect.weights.load import load_model

logger = logging.getLogger("deepfake_detect")

IMAGENET = "imagenet"
"""Stands for the ImageNet weights that timm keeps on the Hub."""


def untrained(
    architecture: str,
    *,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    start: str | os.PathLike[str] | None = None,
    size_px: int | None = None,
    margin: float = 1.3,
    dropout: float | None = None,
    seed: int = 0,
    classes: tuple[str, ...] = DETECTS,
) -> tuple[torch.nn.Module, Card]:
    """Build a new model, and the card that says how pictures are prepared for it.

    Args:
        architecture: As for `create_model`.
        name: Name of the bundle; None takes that of the folder ``out``, or of the architecture.
        out: Output folder of the training.
        start: Initial weights: None for random ones, ``"imagenet"``, a ``.safetensors`` file or a folder with one
            that is named after the architecture, or a bundle as for `find_bundle`.
        size_px: Side of the input in pixels; the native one of the architecture where None.
        margin: Side of the crop as a multiple of the longer side of the face box.
        dropout: As for `create_model`.
        seed: Random seed of the new weights.
        classes: Classes of the card; others than real and fake have a logit each, and whole pictures as input.

    Raises:
        InvalidOption: An option of the wrong type or out of range.
        UnknownModel: No such architecture.
        UnknownWeights: No such weights to start from.
        HubUnavailable: The ImageNet weights cannot be downloaded; the message says how to give a file.
        WeightsMismatch: The weights are of another architecture.
    """
    check_type("model", architecture, str, expected="a name of list_models(), or 'timm:NAME'")
    check_type("start", start, (str, os.PathLike, NoneType), expected=f"{IMAGENET!r}, a file, a bundle, or None")
    check_type("name", name, (str, NoneType), expected="a name for the bundle, or None")
    name = name or bundle_name(out, otherwise=architecture)
    if size_px is not None:
        size_px = whole_number("size_px", size_px, least=8, also=", or None")
    margin = real_number("margin", margin, low=1)
    seed = whole_number("seed", seed)
    with usual_defaults():
        outputs = 1 if classes == DETECTS else len(classes)
        model = create_model(architecture, seed=seed, dropout=dropout, outputs=outputs).float()
        if start is not None:
            taken = take_over(model, _starting_weights(architecture, start), where=os.fspath(start))
            logger.info(
                "%.0f%% of the weights are those of %s; new: %s", 100 * taken.share, start, ", ".join(taken.new)
            )
    mean, std = native_mean_std(architecture)
    preprocessing = Preprocessing(size_px=size_px or native_size_px(architecture), margin=margin, mean=mean, std=std)
    return model, Card(name=name, version=0, architecture=architecture, preprocessing=preprocessing, classes=classes)


def bundle_name(out: str | os.PathLike[str] | None, *, otherwise: str) -> str:
    """Return the name of a new bundle: that of its folder, or else the given one."""
    folder = output_folder(out)
    return otherwise.replace("/", "-").replace(":", "-") if folder is None else folder.resolve().name


def _starting_weights(architecture: str, start: str | os.PathLike[str]) -> dict[str, Any]:
    if start == IMAGENET:
        return dict(safetensors.torch.load_file(_imagenet_file(architecture)))
    path = Path(start).expanduser()
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise FileNotFoundError(f"no weights at {path}; expected a .safetensors file to start from")
        return dict(safetensors.torch.load_file(path))
    trunk = _trunk_in(path, architecture)
    if trunk is not None:
        return dict(safetensors.torch.load_file(trunk))
    return load_model(find_bundle(start)).state_dict()


def _trunk_in(folder: Path, architecture: str) -> Path | None:
    """Return the weights in a folder that is not a bundle: the only file, or the one named after the architecture."""
    if not folder.is_dir() or (folder / CARD_FILE).exists():
        return None
    files = sorted(folder.glob("*.safetensors"))
    wanted = _letters(architecture.removeprefix("timm:").partition("/")[0])
    named = [file for file in files if wanted in _letters(file.stem)]
    chosen = named if len(files) > 1 else files
    if len(chosen) != 1:
        names = ", ".join(file.name for file in files) or "no .safetensors file"
        raise InvalidOption(f"start is {str(folder)!r}, which holds {names}; give the file for {architecture!r}")
    return chosen[0]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _imagenet_file(architecture: str) -> Path:
    home = imagenet_home(architecture)
    try:
        return Path(download_file(home, WEIGHTS_FILE))
    except HubUnavailable as error:
        raise HubUnavailable(
            f"ImageNet weights of {architecture!r} are in {home} on the Hub, which cannot be reached ({error});"
            f" on a computer that can, download https://huggingface.co/{home}/resolve/main/{WEIGHTS_FILE}, and pass "
            "the file, or its folder, as start=; or start from packaged weights, such as start='xception-fakefaces'; "
            "or from random ones, start=None"
        ) from error
