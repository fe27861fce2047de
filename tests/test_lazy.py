"""Test that the names of the package and its wings are there, and that importing a wing loads none of its modules."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import deepfake_detect

PACKAGES = [
    "deepfake_detect",
    *(f"deepfake_detect.{entry.name}" for entry in pkgutil.iter_modules(deepfake_detect.__path__) if entry.ispkg),
]
LAZY = [name for name in PACKAGES if hasattr(importlib.import_module(name), "__all__")]


@pytest.mark.parametrize("package", LAZY)
def test_every_name_is_there_and_no_other(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        _ = module.no_such_name


def test_documented_paths() -> None:
    from deepfake_detect.datasets import read_dataset
    from deepfake_detect.evaluation import calibrate, evaluate
    from deepfake_detect.explain import embed, explain_image, explain_many, feature_maps, filters
    from deepfake_detect.inputs import open_image
    from deepfake_detect.predict import Prediction, Predictions, Predictor
    from deepfake_detect.training import preview
    from deepfake_detect.video import predict_video

    verbs = [calibrate, evaluate, embed, explain_image, explain_many, feature_maps, filters, open_image, predict_video]
    assert all(callable(verb) for verb in [*verbs, preview, read_dataset, Prediction, Predictions, Predictor])


def test_importing_a_wing_loads_neither_its_modules_nor_torch() -> None:
    code = f"import sys, importlib\nfor name in {LAZY}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "cv2", "PIL"} & set(loaded)
    allowed = {*LAZY, "deepfake_detect._lazy", "deepfake_detect._version"}
    assert {name for name in loaded if name.startswith("deepfake_detect")} <= allowed
