"""Test that a training learns, stops and resumes to the same weights."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from deepfake_detect.errors import TrainingDiverged, WeightsMismatch
from deepfake_detect.models.registry import create_model
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.checkpoint import STATE
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.distributed import World
from deepfake_detect.training.loop import fit
from deepfake_detect.training.schedule import Epoch
from deepfake_detect.training.step import Learner
from deepfake_detect.weights.load import load_model
from tests.toy import CARD, SCHEDULE, STAGES, learn, same, toy_crops, trained

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> CropDataset:
    return toy_crops(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def history_of(model: torch.nn.Module) -> list[Epoch]:
    history: list[Epoch] = model.history  # type: ignore[assignment]
    return history


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "nadam", "sgd"])
def test_it_learns(toy: CropDataset, tmp_path: Path, optimizer: str) -> None:
    rate = 0.05 if optimizer == "sgd" else 3e-3
    model = learn(toy, tmp_path, epochs=6, optimizer=optimizer, lr=rate)
    history = history_of(model)
    assert max(epoch.valid_auc for epoch in history) > 0.95
    assert history[-1].loss < 0.95 * history[0].loss
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "history.csv").read_text().count("\n") == 7
    assert not list(tmp_path.glob(".*"))


def test_same_seed_same_weights_and_another_seed_other_weights(toy: CropDataset, tmp_path: Path) -> None:
    first = learn(toy, tmp_path / "a", epochs=1)
    assert same(first, learn(toy, tmp_path / "b", epochs=1))
    assert same(first, learn(toy, tmp_path / "processes", epochs=1, workers=1))
    assert not same(first, learn(toy, tmp_path / "c", epochs=1, seed=1))


@pytest.mark.parametrize("processors", [1, 2])
def test_crops_are_made_ahead_where_a_processor_is_free(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    made: list[CropFeed] = []
    monkeypatch.setattr("deepfake_detect.training.loop.count_processors", lambda: processors)
    monkeypatch.setattr(
        "deepfake_detect.training.loop.CropFeed",
        lambda *args, **more: made.append(CropFeed(*args, **more)) or made[-1],
    )
    model = learn(toy, tmp_path / "here", epochs=1)
    assert {feed.ahead for feed in made} == {processors > 1}  # torch has one thread
    monkeypatch.undo()
    assert same(model, learn(toy, tmp_path / "there", epochs=1))


def test_the_caller_s_random_state_is_left_alone(toy: CropDataset, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    learn(toy, tmp_path, epochs=1)
    assert torch.equal(torch.rand(3), expected)


class PowerCut(Exception):
    """The machine goes off."""


def cut_after(epoch: Epoch) -> None:
    if epoch.epoch == 2:
        raise PowerCut


@pytest.mark.parametrize("options", [{}, {"optimizer": "nadam", "mixup": 0.4}, {"optimizer": "sgd", "freeze": 1}])
def test_interrupted_run_ends_with_the_same_weights(toy: CropDataset, tmp_path: Path, options: dict[str, Any]) -> None:
    options = {"epochs": 3, "epoch_samples": 32, **options}
    whole = learn(toy, tmp_path / "whole", **options)
    torch.manual_seed(2)
    with pytest.raises(PowerCut):
        learn(toy, tmp_path / "parts", callbacks=[cut_after], **options)
    resumed = learn(toy, tmp_path / "parts", resume=True, **options)
    assert same(whole, resumed)
    assert [e.loss for e in history_of(resumed)] == [e.loss for e in history_of(whole)]


def run_in_a_process(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1); "
        f"sys.path[:0] = [{str(TESTS)!r}]; from toy import learn, toy_crops; "
        f"learn(toy_crops(Path({str(folder)!r})), Path({str(out)!r}), epochs=12, resume=True)"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=TESTS.parent)


def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    toy, out, random = toy_crops(tmp_path / "toy"), tmp_path / "killed", np.random.default_rng(0)
    whole = learn(toy, tmp_path / "whole", epochs=12)
    process = run_in_a_process(tmp_path / "toy", out)
    while process.poll() is None and not epochs_in(out):
        time.sleep(0.005)
    time.sleep(float(random.uniform(0, 0.08)))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= epochs_in(out) < 12
    assert same(whole, learn(toy, out, epochs=12, resume=True))
    assert same(whole.eval(), load_model(out))


@pytest.mark.parametrize("options", [{}, {"freeze": "backbone", "lr": 0.05}])
def test_cut_off_at_every_change_of_a_file_it_ends_with_the_same_weights(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {"epochs": 2, "epoch_samples": 16, **options}
    whole = learn(toy, tmp_path / "whole", **options)
    log = (tmp_path / "whole" / "history.csv").read_text().splitlines()
    replace_file, left = os.replace, [0]

    def cut(*paths: Any, **more: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise PowerCut
        replace_file(*paths, **more)

    monkeypatch.setattr(os, "replace", cut)
    for moment in range(1, 20):
        out, left[0] = tmp_path / str(moment), moment
        try:
            learn(toy, out, **options)
            break
        except PowerCut:
            left[0] = 0
        assert same(whole, learn(toy, out, resume=True, **options))
        assert same(whole, load_model(out))
        assert len((out / "history.csv").read_text().splitlines()) == len(log)
    assert moment >= 8  # the state, two files of the bundle, and the log, twice


def test_a_cut_bundle_is_mended_though_the_best_epoch_is_long_past(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"valid_loss": 0.5, "valid_accuracy": 0.5, "collapsed": ""}
    aucs = iter([0.9, 0.6, 0.7])
    monkeypatch.setattr("deepfake_detect.training.loop.measure", lambda *_, **__: {**told, "valid_auc": next(aucs)})
    learn(toy, tmp_path, callbacks=[lambda epoch: epoch.epoch < 2])
    best = load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half")
    assert same(best, learn(toy, tmp_path, resume=True))
    assert same(best, load_model(tmp_path))


def epochs_in(out: Path) -> int:
    log = out / "history.csv"
    return log.read_text().count("\n") - 1 if log.exists() else 0


def test_the_bundle_is_that_of_the_best_epoch(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aucs = iter([0.6, 0.9, 0.7])
    told = {"valid_loss": 0.5, "valid_accuracy": 0.5, "collapsed": ""}
    monkeypatch.setattr("deepfake_detect.training.loop.measure", lambda *_, **__: {**told, "valid_auc": next(aucs)})
    kept: list[torch.nn.Module] = []
    model = learn(
        toy, tmp_path, callbacks=[lambda epoch: kept.append(load_model(tmp_path)) if epoch.epoch < 4 else None]
    )
    assert not same(kept[0], kept[1])
    assert same(kept[1], kept[2])
    assert same(model.eval(), kept[1])


def test_without_validation_the_last_epoch_is_kept(toy: CropDataset, tmp_path: Path) -> None:
    model = learn(toy, tmp_path, epochs=2, valid=None)
    assert all(math.isnan(epoch.valid_auc) for epoch in history_of(model))
    one = learn(toy, tmp_path / "one", epochs=2, valid=None, callbacks=[lambda epoch: False])
    assert len(history_of(one)) == 1
    assert not same(model, one)


def test_early_stopping(toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"valid_loss": 0.5, "valid_accuracy": 0.5, "collapsed": "", "valid_auc": 0.8}
    monkeypatch.setattr("deepfake_detect.training.loop.measure", lambda *_, **__: dict(told))
    assert len(history_of(learn(toy, tmp_path, epochs=9, epoch_samples=16, patience=2))) == 3


def test_another_training_s_state_is_refused_by_name(toy: CropDataset, tmp_path: Path) -> None:
    learn(toy, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="holds a training; pass resume=True"):
        learn(toy, tmp_path, epochs=1)
    with pytest.raises(WeightsMismatch, match=r"of another training: lr was 0\.003, now 0\.1"):
        learn(toy, tmp_path, epochs=1, lr=0.1, resume=True)
    fewer = CropDataset(toy.samples[2:], toy.store, preprocessing=toy.preprocessing)
    with pytest.raises(WeightsMismatch, match="pictures was"):
        learn(fewer, tmp_path, epochs=1, resume=True)
    with pytest.raises(WeightsMismatch, match="of another model"):
        trained(create_model("meso4", seed=0), toy, tmp_path, replace(SCHEDULE, epochs=1), "meso4", resume=True)
    (tmp_path / STATE).write_bytes(b"half")
    with pytest.raises(WeightsMismatch, match="is damaged"):
        learn(toy, tmp_path, epochs=1, resume=True)


def test_divergence_goes_back_with_half_the_rate_twice(
    toy: CropDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingDiverged, match="halved 2 times, after 0 good epochs"):
        learn(toy, tmp_path, lr=1e30)
    assert [record.message.count("half the rate") for record in caplog.records] == [1, 1]


def test_after_a_divergence_the_good_epochs_stay(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, rates = [], []
    learn_step = Learner.learn

    def spoilt(self: Learner, batch: torch.Tensor, label: torch.Tensor, **options: Any) -> float:
        steps.append(1)
        rates.append(options["rate"])
        return learn_step(self, batch * math.nan if len(steps) == 6 else batch, label, **options)

    monkeypatch.setattr(Learner, "learn", spoilt)
    model = learn(toy, tmp_path, ema=0.0)  # four steps an epoch; the sixth is in the second
    assert [epoch.epoch for epoch in history_of(model)] == [1, 2, 3]
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert rates[6] == pytest.approx(rates[4] / 2)  # the first step of the second epoch again
    monkeypatch.undo()
    assert same(model, learn(toy, tmp_path, ema=0.0, resume=True))


def test_the_error_holds_the_curve_so_far(toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    learn_step = Learner.learn

    def spoilt(self: Learner, batch: torch.Tensor, label: torch.Tensor, **options: Any) -> float:
        steps.append(1)
        return learn_step(self, batch * math.nan if len(steps) > 4 else batch, label, **options)

    monkeypatch.setattr(Learner, "learn", spoilt)
    with pytest.raises(TrainingDiverged, match="after 1 good epochs") as caught:
        learn(toy, tmp_path)
    assert [epoch.epoch for epoch in caught.value.history] == [1]


def test_an_exploding_loss_is_a_divergence(toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    learn_step = Learner.learn

    def exploding(self: Learner, *arguments: Any, **options: Any) -> float:
        calls.append(1)
        return learn_step(self, *arguments, **options) + (50.0 if 4 < len(calls) <= 8 else 0.0)

    monkeypatch.setattr(Learner, "learn", exploding)
    assert len(history_of(learn(toy, tmp_path))) == 3
    assert len(calls) == 16


def test_collapse_is_noticed_by_name(toy: CropDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = learn(toy, tmp_path, epochs=1, lr=1e-9)
    assert history_of(model)[0].collapsed in ("real", "fake")
    assert "collapsed to one class in epoch 1: every validation picture is called" in caplog.text
    assert history_of(learn(toy, tmp_path / "good", epochs=6))[-1].collapsed == ""


def test_out_of_memory_computes_the_same_step_in_parts(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learn(toy, tmp_path / "whole", epochs=1)
    sizes: list[int] = []
    logits = Learner.logits

    def small_device(self: Learner, batch: torch.Tensor, **options: Any) -> torch.Tensor:
        if not options.get("averaged", True):
            sizes.append(len(batch))
            if len(batch) > 4:
                raise torch.OutOfMemoryError("out of memory")
        return logits(self, batch, **options)

    monkeypatch.setattr(Learner, "logits", small_device)
    torch.manual_seed(0)
    parts = learn(toy, tmp_path / "parts", epochs=1)
    assert sizes[:7] == [16, 8, 4, 4, 4, 4, 4]  # halved twice, then for good
    assert max(sizes[7:]) == 4
    assert history_of(parts)[0].batch_size == 16
    assert history_of(parts)[0].loss == pytest.approx(history_of(whole)[0].loss, abs=0.05)  # the dropout differs
    monkeypatch.setattr(Learner, "logits", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        learn(toy, tmp_path / "none", epochs=1)


def test_class_weights_weigh_the_loss(toy: CropDataset) -> None:
    schedule = replace(SCHEDULE, smoothing=0.2)
    learner = Learner(
        torch.nn.Linear(1, 1), schedule, device=torch.device("cpu"), dtype=torch.float32, world=World(),
        class_weights=(2.0, 5.0),
    )  # fmt: skip
    label, logit = torch.tensor([0.0, 1.0]), torch.tensor([0.3, -1.0])
    target = label * 0.8 + 0.1
    plain = [-y * math.log(1 / (1 + math.exp(-z))) - (1 - y) * math.log(1 / (1 + math.exp(z)))
             for y, z in zip(target.tolist(), logit.tolist(), strict=True)]  # fmt: skip
    assert float(learner._loss(logit, target)) == pytest.approx((2 * plain[0] + 5 * plain[1]) / 2)


def test_broken_averages_are_a_divergence(toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = Learner.logits
    monkeypatch.setattr(
        Learner,
        "logits",
        lambda self, batch, averaged=True: logits(self, batch, averaged=averaged) * (math.nan if averaged else 1),
    )
    with pytest.raises(TrainingDiverged, match="not finite in epoch 1, with rate"):
        learn(toy, tmp_path)


def test_without_an_auc_the_loss_decides(toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"valid_auc": math.nan, "valid_accuracy": math.nan, "collapsed": ""}
    losses = iter([0.5, 0.4, 0.45, 0.6, 0.1])
    monkeypatch.setattr("deepfake_detect.training.loop.measure", lambda *_, **__: {**told, "valid_loss": next(losses)})
    model = learn(toy, tmp_path, epochs=9, epoch_samples=16, patience=2)
    assert len(history_of(model)) == 4


def test_accumulated_batches_make_the_same_step(toy: CropDataset, tmp_path: Path) -> None:
    def run(name: str, **options: Any) -> list[float]:
        model = create_model("cnn-simple", seed=0)
        schedule = type(SCHEDULE)(epochs=2, epoch_samples=64, lr=3e-3, **options)
        history = fit(model, toy, card=CARD, schedule=schedule, out=tmp_path / name, device="cpu")
        return [epoch.loss for epoch in history]

    assert run("whole", batch_size=16) == pytest.approx(run("parts", batch_size=4, accumulate=4), rel=1e-4)


def test_a_tensorboard_log_where_it_is_installed(toy: CropDataset, tmp_path: Path) -> None:
    learn(toy, tmp_path, epochs=1)
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert not (tmp_path / "tensorboard").exists()
    else:
        assert list((tmp_path / "tensorboard").glob("events.*"))


def test_bfloat16_trains_and_is_remembered(toy: CropDataset, tmp_path: Path) -> None:
    model = learn(toy, tmp_path, epochs=3, dtype="bfloat16")
    assert history_of(model)[-1].loss < 0.69
    whole = learn(toy, tmp_path / "plain", epochs=3)
    assert not same(model, whole)
    assert same(model, learn(toy, tmp_path, epochs=3, resume=True))


def test_torchrun_in_two_processes_trains_one_model(tmp_path: Path) -> None:
    toy, two = toy_crops(tmp_path / "toy"), tmp_path / "two"
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": path}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(TESTS / "two_processes.py"), str(tmp_path / "toy"), str(two), "8"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for stage, freeze in STAGES.items():
        first, second = (safetensors.torch.load_file(two / f"{stage}-{rank}.safetensors") for rank in (0, 1))
        alone = learn(toy, tmp_path / stage, batch_size=16, freeze=freeze, dropout=0.0).state_dict()
        assert epochs_in(two / stage) == 3
        for name, value in first.items():
            assert torch.equal(value, second[name])
            assert torch.allclose(value, alone[name], atol=2e-4), name
