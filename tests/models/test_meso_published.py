"""Test that `meso4` and `mesoinception4` compute what the published MesoNet computes.

The oracle is `recipes.mesonet_numpy`: plain numpy in Keras' order of axes. The files here have the published layout,
names and numbering, and random values chosen so that every detail shows in the score: small variances (the epsilon of
the batch norm), hidden units on both sides of zero (the leaky ReLU), edges that differ from the middle (the padding).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from deepfake_detect.models.registry import create_model

h5py = pytest.importorskip("h5py")
from recipes import convert_mesonet  # noqa: E402
from recipes.mesonet_numpy import published_score  # noqa: E402

Shape = tuple[int, ...]
TAIL: list[Shape] = [(5, 5, 16, 16)]
MESO4: list[Shape] = [(3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), *TAIL]
INCEPTION: list[Shape] = [
    *[(1, 1, 3, 1), (1, 1, 3, 4), (3, 3, 4, 4), (1, 1, 3, 4), (3, 3, 4, 4), (1, 1, 3, 2), (3, 3, 2, 2)],
    *[(1, 1, 11, 2), (1, 1, 11, 4), (3, 3, 4, 4), (1, 1, 11, 4), (3, 3, 4, 4), (1, 1, 11, 2), (3, 3, 2, 2)],
    (5, 5, 12, 16),
    *TAIL,
]
LAYOUTS = {  # kernels, channels of the batch norms, number of the first convolution, batch norm and dense layer
    "Meso4_DF": (MESO4, [8, 8, 16, 16], 5, 5, 3),
    "Meso4_F2F": (MESO4, [8, 8, 16, 16], 5, 5, 3),
    "MesoInception_DF": (INCEPTION, [11, 12, 16, 16], 1, 1, 1),
    "MesoInception_F2F": (INCEPTION, [11, 12, 16, 16], 1, 1, 1),
}


def write_h5(path: Path, *, seed: int) -> None:
    kernels, norms, first_conv, first_norm, first_dense = LAYOUTS[path.stem]
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:

        def write(layer: str, **values: np.ndarray) -> None:
            for key, value in values.items():
                file[f"{layer}/{layer}/{key}:0"] = value.astype(np.float32)

        for number, shape in enumerate(kernels, first_conv):
            kernel = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:3]))
            write(f"conv2d_{number}", kernel=kernel, bias=rng.uniform(0, 0.3, shape[3]))
        for number, size in enumerate(norms, first_norm):
            write(
                f"batch_normalization_{number}",
                gamma=rng.uniform(0.05, 0.2, size),
                beta=rng.normal(size=size) * 0.1,
                moving_mean=rng.uniform(0, 0.3, size),
                moving_variance=rng.uniform(0.005, 0.05, size),
            )
        write(f"dense_{first_dense}", kernel=rng.normal(size=(1024, 16)) * 0.04, bias=rng.normal(size=16) * 0.1)
        write(f"dense_{first_dense + 1}", kernel=rng.normal(size=(16, 1)) * 0.5, bias=rng.normal(size=1) * 0.1)
        file["flatten_1"] = h5py.Empty("f")  # layers without weights stand in the files too


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("mesonet")
    for seed, name in enumerate(LAYOUTS):
        write_h5(folder / f"{name}.h5", seed=seed)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows, columns = np.mgrid[0:180, 0:210]
    noise = np.random.default_rng(0).integers(0, 60, (180, 210, 3))
    waves = np.stack([rows, columns, (rows * columns) // 150 % 190], axis=-1)
    path = tmp_path_factory.mktemp("pictures") / "waves.png"
    Image.fromarray(np.minimum(waves + noise, 255).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("name", LAYOUTS)
def test_score_is_the_published_one(name: str, weights: Path, picture: Path) -> None:
    pixels = convert_mesonet.read(picture)
    model = convert_mesonet.convert(weights / f"{name}.h5")
    published = published_score(weights / f"{name}.h5", pixels)
    assert 0.02 < published < 0.98, "a score at the end of the scale would hide a difference"
    assert convert_mesonet.real_score(model, pixels) == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_positive_logit_means_fake_where_the_authors_say_not_real(name: str, weights: Path, picture: Path) -> None:
    pixels = convert_mesonet.read(picture)
    batch = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        logit = float(convert_mesonet.convert(weights / f"{name}.h5")(batch))
    assert (logit > 0) == (published_score(weights / f"{name}.h5", pixels) < 0.5)


def test_numpy_agrees_with_a_score_worked_out_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "Meso4_DF.h5"
    write_h5(path, seed=0)
    with h5py.File(path, "r+") as file:
        for number in range(5, 9):  # one channel carries the red value unchanged
            conv, norm = (
                f"conv2d_{number}/conv2d_{number}",
                f"batch_normalization_{number}/batch_normalization_{number}",
            )
            kernel = np.zeros(file[f"{conv}/kernel:0"].shape)
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, 0, 0] = 1
            file[f"{conv}/kernel:0"][...] = kernel
            file[f"{conv}/bias:0"][...] = 0
            for key, value in {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 0.999}.items():
                file[f"{norm}/{key}:0"][...] = value
        first = np.zeros((1024, 16))
        first[16 * (8 * 2 + 5), 0], first[16 * (8 * 2 + 5), 1] = 2, -4  # row 2, column 5, channel 0
        file["dense_3/dense_3/kernel:0"][...], file["dense_3/dense_3/bias:0"][...] = first, 0
        file["dense_4/dense_4/kernel:0"][...], file["dense_4/dense_4/bias:0"][...] = 1, 0
    pixels = np.zeros((256, 256, 3))
    pixels[2 * 32 + 31, 5 * 32, 0] = 0.5
    # 2 * 0.5 stays, -4 * 0.5 leaks as -0.2: sigmoid(0.8)
    assert published_score(path, pixels) == pytest.approx(1 / (1 + np.exp(-0.8)), abs=1e-7)
    assert convert_mesonet.real_score(convert_mesonet.convert(path), pixels) == pytest.approx(0.6899745, abs=1e-6)


def test_command_converts_and_compares(
    weights: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["convert_mesonet", "--weights", str(weights), "--out", str(out), "--check", str(picture)]
    monkeypatch.setattr(sys, "argv", words)
    convert_mesonet.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(LAYOUTS)
    assert float(lines[-1].removeprefix("largest difference: ")) < 1e-5
    tensors = safetensors.torch.load_file(out / "MesoInception_F2F.safetensors")
    create_model("mesoinception4").load_state_dict(tensors)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["conv2d_1/conv2d_1/kernel:0"] = np.zeros((3, 3, 3, 8))
    with pytest.raises(SystemExit, match="1 convolutions, expected 4"):
        convert_mesonet.convert(tmp_path / "other.h5")
