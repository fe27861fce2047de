"""Test that every wrong value or type of an option is an `InvalidOption`, or another error of ours, that names it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deepfake_detect as dd
from deepfake_detect import DeepfakeDetectError, Detector
from deepfake_detect._keywords import EvaluationOptions, FineTuneOptions, TrainOptions
from deepfake_detect.evaluation.evaluator import evaluate
from deepfake_detect.training.pipeline import train_model
from deepfake_detect.training.schedule import Schedule
from tests.small_world import CARD, PORTRAIT, small_detector, small_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:optuna")

THING = object()
WORDS, SHARES, COUNTS = ["no-such", 3, None, THING], [2, -0.1, "half", True, math.nan, THING], [0, -1, 1.5, "two", True]
FLAGS = ["yes", 1, None]
PLACES = [3, THING]
DEVICE = ["toaster", 3, THING]
DTYPE = ["int8", 3, THING]
FACES = {"faces": WORDS, "threshold": SHARES}
LOADING = {"device": DEVICE, "dtype": DTYPE, "backend": ["tensorflow", 3]}
TRAINING = {
    "epochs": COUNTS,
    "lr": [0, -1, "fast", True, math.inf],
    "batch_size": [*COUNTS, "large"],
    "freeze": ["head", -1, 0.5],
    "augment": ["heavy", 3],
    "balance": ["both"],
    "seed": ["lucky", 1.5],
    "out": [3, THING],
    "resume": ["yes"],
    "callbacks": [3, [3]],
    "valid": [2.0, -1.0, True],
    "faces": ["every", 3],
    "self_blend": [-1, 2, "half"],
    "check": ["maybe", 3],
    "workers": [-1, "all", 1.5],
    "labels": ["fake", {"mine": "maybe"}],
    "epoch_samples": COUNTS,
    "accumulate": COUNTS,
    "optimizer": ["lion", 3],
    "momentum": [1, -0.1, "much"],
    "weight_decay": [-1, "much"],
    "warmup": [1, -0.1, "long"],
    "layer_decay": [0, 2, "deep"],
    "feature_views": [-1, 1.5, "all"],
    "smoothing": [1, -0.1, "soft"],
    "mixup": [-1, "much"],
    "clip": [0, -1, "tight"],
    "ema": [1, -0.1, "slow"],
    "favour": ["mine", {"a": -1}],
    "pairs": [2, -1, "many"],
    "class_weights": ["heavy", (0, 1), 3],
    "patience": COUNTS,
}
WRONG: dict[str, dict[str, list[Any]]] = {
    "Detector": {"card": [], "model": [], "revision": [], "finder": [], "texture": [3], **LOADING},
    "Detector.from_pretrained": {
        "revision": [3],
        "cache_dir": [3],
        "force_download": FLAGS,
        "token": [3],
        "local_files_only": FLAGS,
        **LOADING,
    },
    "Detector.to": LOADING,
    "Detector.predict": {"content": FLAGS, **FACES},
    "Detector.predict_many": {
        "batch_size": COUNTS,
        "workers": [-1, 1.5, "two", True],
        "on_error": WORDS,
        "progress": FLAGS,
        "content": FLAGS,
        **FACES,
    },
    "Detector.look": {"faces": WORDS, "workers": [-1, 1.5, "two"]},
    "Detector.predict_video": {
        "max_frames": COUNTS,
        "every_s": [0, -1, "often", math.nan],
        "save": PLACES,
        "progress": FLAGS,
        **FACES,
    },
    "Detector.explain": {
        "method": [word for word in WORDS if word is not None],
        "layer": ["no.such.layer", 3],
        "faithfulness": ["much", 3],
        "target": ["face", 3],
        **FACES,
    },
    "Detector.stability": FACES,
    "Detector.fine_tune": {"dtype": DTYPE, **TRAINING},
    "Detector.train": {
        "model": ["resnet-9000", 3],
        "start": ["no-such-weights", 3],
        "size_px": COUNTS,
        "margin": [0, -1, "wide"],
        "dropout": [1, -0.1, "much"],
        "name": [3],
        "device": DEVICE,
        "dtype": DTYPE,
    },
    "Detector.evaluate": {
        "split": ["holdout", 3],
        "labels": ["fake", 3],
        "frames": COUNTS,
        "batch_size": COUNTS,
        "workers": [-1, 1.5, "two"],
        "robustness": ["fax", ["fax"], 3],
        "rounds": COUNTS,
        "seed": ["lucky", 1.5],
        "progress": ["yes"],
        **FACES,
    },
    "Detector.calibrate": {"max_false_alarm": [0, 1, -1, "few", True, math.nan], "method": ["isotonic", 3]},
    "Detector.find_rate": {
        "low": [0, -1, "slow", 2.0],
        "high": [0, "fast"],
        "steps": [0, 5, 1.5, "many"],
        "batch_size": COUNTS,
        "freeze": ["head", -1],
        "augment": ["heavy", 3],
        "self_blend": [2, "half"],
        "optimizer": ["lion"],
        "seed": ["lucky", 1.5],
        "stepz": [3],
    },
    "Detector.cross_validate": {
        "folds": [0, 1, 1.5, "two", True],
        "labels": ["fake"],
        "seed": ["lucky", 1.5],
        "epoks": [3],
    },
    "Detector.save_pretrained": {"folder": PLACES},
    "Detector.push_to_hub": {
        "repo_id": PLACES,
        "private": ["yes", 1],
        "revision": [3],
        "create_pr": FLAGS,
        "commit_message": [3],
        "token": [3],
    },
    "audit": {
        "strict": FLAGS,
        "faces": ["every", 3],
        "store": ["cache", 3],
        "predictor": ["meso4", 3],
        "sample_limit": [0, -1, 1.5, "few", True],
        "workers": [0, -1, 1.5, "all"],
        "seed": ["lucky", 1.5, -1],
        "classes": ["real", 3],
    },
    "tune": {
        "model": ["resnet-9000", 3, [], [3]],
        "space": [
            "lr",
            3,
            {"rate": [1]},
            {"lr": []},
            {"lr": 0.1},
            {"lr": (1, 2, 3)},
            {"lr": (0.1, 0.01)},
            {"lr": ("a", 1)},
        ],
        "trials": COUNTS,
        "epochs": COUNTS,
        "sampler": WORDS,
        "prune": FLAGS,
        "start": ["no-such-weights", 3],
        "size_px": ["wide", 1.5],
        "valid": [2.0, -1.0, True],
        "seed": ["lucky", 1.5],
        "out": PLACES,
        "check": ["maybe", 3],
        "labels": ["fake"],
        "lrr": [0.1],
    },
    "find_faces": {"threshold": SHARES, "border": FLAGS, "model": [3]},
    "create_model": {"dropout": [1, -0.1, "much"], "seed": ["lucky", 1.5], "outputs": COUNTS},
}
CALLS: dict[str, Callable[..., Any]] = {
    "Detector": lambda **options: Detector(model=small_model(), card=CARD, **options),
    "Detector.from_pretrained": lambda **options: Detector.from_pretrained("meso4-fakefaces", **options),
    "Detector.to": lambda **options: small_detector().to(**options),
    "Detector.predict": lambda **options: small_detector().predict(PORTRAIT, **options),
    "Detector.predict_many": lambda **options: small_detector().predict_many([PORTRAIT], **options),
    "Detector.look": lambda **options: small_detector().look(PORTRAIT, **options),
    "Detector.predict_video": lambda **options: small_detector().predict_video("missing.mp4", **options),
    "Detector.explain": lambda **options: small_detector().explain(PORTRAIT, **{"faithfulness": "off", **options}),
    "Detector.stability": lambda **options: small_detector().stability(PORTRAIT, **options),
    "Detector.fine_tune": lambda **options: small_detector().fine_tune(DATA, **options),
    "Detector.train": lambda **options: Detector.train(DATA, **{"model": "meso4", "device": "cpu", **options}),
    "Detector.evaluate": lambda **options: small_detector().evaluate(DATA, **options),
    "Detector.calibrate": lambda **options: small_detector().calibrate([PORTRAIT], **options),
    "Detector.find_rate": lambda **options: small_detector().find_rate(DATA, **options),
    "Detector.cross_validate": lambda **options: small_detector().cross_validate(DATA, **options),
    "Detector.save_pretrained": lambda **options: small_detector().save_pretrained(**options),
    "Detector.push_to_hub": lambda **options: small_detector().push_to_hub(**{"repo_id": "me/mine", **options}),
    "audit": lambda **options: dd.audit(DATA, **options),
    "tune": lambda **options: dd.tune(DATA, **{"trials": 1, "epochs": 1, "check": "off", **options}),
    "find_faces": lambda **options: dd.find_faces(PORTRAIT, **options),
    "create_model": lambda **options: dd.create_model("meso4", **options),
}
DATA = [(PORTRAIT, "real"), (PORTRAIT, "fake")] * 4


def cases() -> Iterator[Any]:
    for call, options in WRONG.items():
        for option, values in options.items():
            for value in values:
                shown = "object" if value is THING else repr(value)
                yield pytest.param(call, option, value, id=f"{call}({option}={shown})")


@pytest.mark.parametrize(("call", "option", "value"), list(cases()))
def test_a_wrong_value_is_refused_by_name(
    call: str, option: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeepfakeDetectError) as caught:
        CALLS[call](**{option: value})
    text = str(caught.value)
    assert option in text or str(value).strip("[']") in text, text
    assert list(tmp_path.iterdir()) == []


TYPED = {"Detector.train": TrainOptions, "Detector.fine_tune": FineTuneOptions, "Detector.evaluate": EvaluationOptions}


def options_of(call: str) -> set[str]:
    """Return the names of the options of a public method or function, typed keywords included."""
    owner: Any = dd
    for part in call.split("."):
        owner = getattr(owner, part)
    parameters = inspect.signature(owner).parameters.values()
    names = {entry.name for entry in parameters if entry.kind is entry.KEYWORD_ONLY}
    names |= set(TYPED[call].__optional_keys__) if call in TYPED else set()  # type: ignore[attr-defined]
    return names | ({"device"} if call == "Detector.to" else set())


@pytest.mark.parametrize("call", list(WRONG))
def test_every_option_is_tried(call: str) -> None:
    of_training = set(TRAINING) if call == "Detector.train" else set()
    assert options_of(call) - of_training <= set(WRONG[call])


def test_typed_keywords_are_those_that_training_and_evaluation_take() -> None:
    taken = set(inspect.signature(train_model).parameters) | set(inspect.signature(Schedule).parameters)
    taken -= {"model", "dataset", "card", "fresh", "device", "schedule", "texture", "backend"}
    named = {entry.name for entry in inspect.signature(Detector.fine_tune).parameters.values() if entry.kind == 3}
    assert FineTuneOptions.__optional_keys__ | named == taken
    assert TrainOptions.__optional_keys__ | {"epochs", "dtype"} == taken
    assert EvaluationOptions.__optional_keys__ == set(inspect.signature(evaluate).parameters) - {"predictor", "dataset"}
