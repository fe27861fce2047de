"""Convert the published weights of MesoNet to this package's format.

The authors (Afchar et al. 2018, Apache-2.0) give Keras files: Meso4_DF.h5, Meso4_F2F.h5, MesoInception_DF.h5 and
MesoInception_F2F.h5. Their sigmoid is the probability of *real*; ours is the logit of *fake*, so the last layer changes
its sign. TensorFlow is not needed, h5py is.

Usage:
    python -m recipes.convert_mesonet --weights DIR --out OUT            writes OUT/Meso4_DF.safetensors ...
    python -m recipes.convert_mesonet --weights DIR --check PICTURE...   compares with a computation in numpy alone
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deepfake_detect.models.registry import create_model
from recipes.mesonet_numpy import published_score

FILES = ("Meso4_DF", "Meso4_F2F", "MesoInception_DF", "MesoInception_F2F")
SIDE = 256
GRID = 8

_INCEPTION = ("point", "near.0", "near.2", "wide.0", "wide.2", "wider.0", "wider.2")
CONVS = {  # in the order in which Keras numbered them
    "meso4": [f"features.{stage}.conv" for stage in range(4)],
    "mesoinception4": [
        *(f"features.{stage}.conv.{branch}" for stage in range(2) for branch in _INCEPTION),
        "features.2.conv",
        "features.3.conv",
    ],
}


def convert(path: str | Path) -> torch.nn.Module:
    """Read a published h5 file into our network.

    Args:
        path: An h5 file of Keras weights; the number of its convolutions tells which network it is.

    Returns:
        ``meso4`` or ``mesoinception4`` in eval mode, whose positive logit means fake.
    """
    with h5py.File(path, "r") as file:
        layers = {kind: _numbered(file, kind) for kind in ("conv2d", "batch_normalization", "dense")}
    name = {len(convs): name for name, convs in CONVS.items()}.get(len(layers["conv2d"]))
    if name is None:
        raise SystemExit(f"{path} has {len(layers['conv2d'])} convolutions, expected 4 (Meso4) or 16 (MesoInception4)")
    state: dict[str, Tensor] = {}
    for place, layer in zip(CONVS[name], layers["conv2d"], strict=True):
        state |= {f"{place}.weight": layer["kernel"].permute(3, 2, 0, 1), f"{place}.bias": layer["bias"]}
    for stage, layer in enumerate(layers["batch_normalization"]):
        state |= _norm(f"features.{stage}.norm", layer)
    hidden, output = layers["dense"]
    state |= {"head.hidden.weight": _reordered(hidden["kernel"]), "head.hidden.bias": hidden["bias"]}
    state |= {"head.logit.weight": -output["kernel"].T, "head.logit.bias": -output["bias"]}
    model = create_model(name)
    model.load_state_dict(state)
    return model.eval()


def check(weights: Path, pictures: list[Path]) -> float:
    """Print what numpy and our network say of each picture, and return the largest difference."""
    largest = 0.0
    print(f"{'weights':18} {'published':>10} {'ours':>10} {'difference':>11}  picture   (1 = real)")
    for name in FILES:
        path = weights / f"{name}.h5"
        model = convert(path)
        for picture in pictures:
            pixels = read(picture)
            published, ours = published_score(path, pixels), real_score(model, pixels)
            largest = max(largest, abs(published - ours))
            print(f"{name:18} {published:10.6f} {ours:10.6f} {abs(published - ours):11.1e}  {picture.name}")
    print(f"largest difference: {largest:.1e}")
    return largest


def read(picture: Path) -> NDArray[np.float64]:
    """Read a picture as the authors feed it: the whole of it at 256 x 256, RGB in [0, 1], [256, 256, 3]."""
    with Image.open(picture) as image:
        pixels = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(pixels, dtype=np.float64) / 255


@torch.inference_mode()
def real_score(model: torch.nn.Module, pixels: NDArray[np.float64]) -> float:
    """Compute the probability of real that our network gives to [256, 256, 3] in [0, 1]."""
    batch = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]  # [1, 3, 256, 256]
    return float(1 - torch.sigmoid(model(batch))[0])


def main() -> None:
    """Read the command line; convert, compare, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the published h5 files")
    parser.add_argument("--out", type=Path, help="folder for the safetensors files")
    parser.add_argument("--check", type=Path, nargs="+", default=[], help="pictures to compare on")
    options = parser.parse_args()
    if not (options.out or options.check):
        parser.error("say --out, --check or both")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            model = convert(options.weights / f"{name}.h5")
            safetensors.torch.save_file(model.state_dict(), options.out / f"{name}.safetensors")
    if options.check and not check(options.weights, options.check) < 1e-4:
        raise SystemExit("the network does not compute what was published")


def _numbered(file: h5py.File, kind: str) -> list[dict[str, Tensor]]:
    names = sorted((name for name in file if name.startswith(f"{kind}_")), key=lambda name: int(name.split("_")[-1]))
    return [
        {weight.split(":")[0]: torch.from_numpy(value[()]) for weight, value in file[name][name].items()}
        for name in names
    ]


def _norm(place: str, layer: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{place}.weight": layer["gamma"],
        f"{place}.bias": layer["beta"],
        f"{place}.running_mean": layer["moving_mean"],
        f"{place}.running_var": layer["moving_variance"],
        f"{place}.num_batches_tracked": torch.tensor(0),
    }


def _reordered(kernel: Tensor) -> Tensor:
    """Turn [height * width * channel, 16] of Keras into [16, channel * height * width] of torch."""
    return kernel.reshape(GRID, GRID, -1, kernel.shape[1]).permute(3, 2, 0, 1).flatten(1)


if __name__ == "__main__":
    main()
