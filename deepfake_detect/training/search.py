"""Search for the settings that train the best detector (hyperparameter search with Optuna)."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from deepfake_detect._options import check_choice, check_flag, output_folder, real_number, whole_number
from deepfake_detect.drawing import charts
from deepfake_detect.errors import DatasetError, InvalidOption, MissingExtra, TrainingDiverged, nearest
from deepfake_detect.training.initial import untrained
from deepfake_detect.training.pipeline import train_model
from deepfake_detect.training.prepare import check_data, split_data
from deepfake_detect.training.schedule import Epoch, Schedule

logger = logging.getLogger("deepfake_detect")

SPACE: dict[str, Any] = {
    "lr": (1e-4, 1e-2),
    "optimizer": ["adamw", "adam", "nadam", "sgd"],
    "dropout": [0.0, 0.2, 0.5],
    "hidden": [0, 64],
    "freeze": [None, 1],
    "augment": ["none", "light", "default", "strong"],
}
"""Default search space."""

_MODEL_SETTINGS = ("model", "hidden", "dropout", "size_px")
_LOG_FACTOR = 20  # a range that spans more is searched by its logarithm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """One training of a search.

    Attributes:
        number: Counted from 0, in the order in which they were begun.
        params: The settings.
        auc: Best validation AUC; not a number where there is none.
        state: ``"complete"``, ``"pruned"`` (given up, since it fell behind) or ``"diverged"``.
        collapsed: The best epoch called every validation picture the same.
        history: One entry for each epoch.
        seconds: That it took.
        folder: Of its bundle; None where none was kept.
    """

    number: int
    params: dict[str, Any]
    auc: float
    state: str
    collapsed: bool
    history: tuple[Epoch, ...]
    seconds: float
    folder: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Give the trial as plain JSON values."""
        return {
            "number": self.number,
            "params": self.params,
            "auc": None if math.isnan(self.auc) else self.auc,
            "state": self.state,
            "collapsed": self.collapsed,
            "epochs": len(self.history),
            "seconds": self.seconds,
            "folder": None if self.folder is None else str(self.folder),
            "history": [_plain(asdict(epoch)) for epoch in self.history],
        }

    def __str__(self) -> str:
        values = ", ".join(f"{name} {_word(value)}" for name, value in self.params.items())
        state = "collapsed" if self.collapsed else "" if self.state == "complete" else self.state
        return f"{self.auc:.3f}  {len(self.history):>3} epochs  {self.seconds:>6.0f} s  {state:<9}  {values}"


def tune(
    dataset: Any,
    *,
    model: str | Sequence[str] = "meso4",
    space: Mapping[str, Any] | None = None,
    trials: int = 20,
    epochs: int = 5,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    prune: bool = True,
    start: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    size_px: int | None = None,
    valid: Any = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> list[Trial]:
    """Train again and again with other settings, and rank them by their AUC on validation pictures.

    All trials learn from the same pictures and are judged on the same others. Since the best of many is chosen on
    those, its own figure is too good: measure it on a test set.

    Args:
        dataset: As for `Detector.fine_tune`. A split ``"test"`` is left alone.
        model: An architecture, or several to choose from.
        space: What varies: a list of values, or a range ``(low, high)``, searched by its logarithm where it spans a
            factor of 20. Names are ``lr``, ``dropout``, ``hidden`` (width of a hidden layer before the logit, 0 for
            none), ``size_px``, ``augment``, ``self_blend``, and every field of `Schedule`, such as ``optimizer``,
            ``freeze``, ``mixup`` or ``weight_decay``. `SPACE` where None.
        trials: How many, those that ``out`` holds already included; ``sampler="grid"`` ends when all were tried.
        epochs: Of each trial.
        sampler: ``"tpe"`` learns from the trials before (Akiba et al. 2019, Optuna), ``"random"`` does not, and
            ``"grid"`` tries every combination of the lists, as for an ablation study.
        prune: Give up a trial that is worse than the median of those before at the same epoch.
        start: As for `Detector.train`; or for each model its own.
        size_px: Side of the input in pixels; the architecture's own where None.
        valid: As for `Detector.fine_tune`.
        seed: Of the search, the split and every trial.
        out: Keeps the trials; the same call goes on where it was stopped. Gets ``best/``, the bundle of the best
            trial, ``trials.csv``, ``trials.json``, and ``ablation.png`` where matplotlib is installed.
        **options: Any other of `Detector.fine_tune`, the same for all trials.

    Returns:
        Best first.

    Raises:
        MissingExtra: Optuna is not installed.
        DatasetError: As for `Detector.fine_tune`.
        InvalidOption: A range in a grid, an option or a setting that does not exist, or one of a wrong type or value.
    """
    trials, epochs = whole_number("trials", trials, least=1), whole_number("epochs", epochs, least=1)
    check_choice("sampler", sampler, ("tpe", "random", "grid"))
    check_flag("prune", prune)
    seed = whole_number("seed", seed)
    if size_px is not None:
        size_px = whole_number("size_px", size_px, least=8, also=", or None")
    searched = _space(model, SPACE if space is None else space, sampler)
    folder_out = output_folder(out)
    _check_names(options)
    optuna = _optuna()
    train, held = split_data(dataset, valid=valid, seed=seed, labels=options.pop("labels", None))
    check_data([*train, *held], options.pop("check", "warn"))
    with _folder(folder_out) as folder:
        search = _Search(
            folder=Path(folder),
            kept=folder_out is not None,
            space=searched,
            run={"dataset": train, "valid": held, "epochs": epochs, "seed": seed, "size_px": size_px, **options},
            start=start,
        )
        study = search.study(optuna, sampler=sampler, prune=prune, seed=seed)
        search.go_on(optuna, study, trials)
        ranked = search.ranked(study)
        if folder_out is not None:
            search.keep(ranked)
    return ranked


def ablation(trials: Sequence[Trial]) -> Image.Image:
    """Draw what each setting did to the validation AUC.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return charts.ablation([({k: _word(v) if v is None else v for k, v in t.params.items()}, t.auc) for t in trials])


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The trials of one search, in a folder."""

    folder: Path
    kept: bool
    space: dict[str, Any]
    run: dict[str, Any]
    start: Any

    def study(self, optuna: Any, *, sampler: str, prune: bool, seed: int) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(self.folder / "study.log"))
        pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2) if prune else optuna.pruners.NopPruner()
        )
        return optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name="tune",
            direction="maximize",
            sampler=self._sampler(optuna, sampler, seed),
            pruner=pruner,
            load_if_exists=True,
        )

    def go_on(self, optuna: Any, study: Any, count: int) -> None:
        """Run the trials that are missing; one that was cut off, or failed, is begun again."""
        self._same_space(study)
        states = optuna.trial.TrialState
        for cut_off in study.get_trials(states=(states.RUNNING,)):
            study.tell(cut_off.number, state=states.FAIL)
        begun_again = {trial.user_attrs.get("again") for trial in study.trials}
        for failed in study.get_trials(states=(states.FAIL,)):
            if failed.number not in begun_again:
                study.enqueue_trial(failed.params, user_attrs={"again": failed.number})
        done = len(study.get_trials(states=(states.COMPLETE, states.PRUNED)))
        if done < count:
            study.optimize(lambda trial: self._run(optuna, trial), n_trials=count - done)

    def ranked(self, study: Any) -> list[Trial]:
        """Give the trials that came to an end, best first."""
        trials = [self._trial(trial) for trial in study.trials if "history" in trial.user_attrs]
        return sorted(trials, key=lambda trial: (math.isnan(trial.auc), -trial.auc if trial.auc == trial.auc else 0))

    def keep(self, trials: Sequence[Trial]) -> None:
        """Write the table, the plot and the best bundle."""
        rows = [trial.to_dict() for trial in trials]
        (self.folder / "trials.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        with (self.folder / "trials.csv").open("w", newline="", encoding="utf-8") as file:
            columns = ("number", "auc", "state", "collapsed", "epochs", "seconds")
            table = csv.writer(file)
            table.writerow([*columns, *self.space])
            table.writerows([*(row[c] for c in columns), *(row["params"].get(n) for n in self.space)] for row in rows)
        if trials and trials[0].folder is not None and not math.isnan(trials[0].auc):
            shutil.copytree(trials[0].folder, self.folder / "best", dirs_exist_ok=True)
        try:
            ablation(trials).save(self.folder / "ablation.png")
        except MissingExtra as error:
            logger.info("no ablation.png: %s", error)

    def _run(self, optuna: Any, trial: Any) -> float:
        params = {name: _suggest(trial, name, values) for name, values in self.space.items()}
        history: list[Epoch] = []

        def watch(epoch: Epoch) -> None:
            history.append(epoch)
            if not math.isnan(epoch.valid_auc):
                trial.report(epoch.valid_auc, epoch.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        began = time.monotonic()
        try:
            self._learn(trial.number, params, watch)
        except TrainingDiverged as error:
            logger.warning("trial %d: %s", trial.number, error)
            trial.set_user_attr("diverged", str(error))
            raise optuna.TrialPruned from error
        finally:
            if history:
                trial.set_user_attr("seconds", time.monotonic() - began)
                trial.set_user_attr("history", [asdict(epoch) for epoch in history])
        return max(epoch.valid_auc for epoch in history)

    def _learn(self, number: int, params: Mapping[str, Any], watch: Any) -> None:
        rest = {name: value for name, value in params.items() if name not in _MODEL_SETTINGS}
        hidden = params.get("hidden")
        architecture = f"{params['model']}/{hidden}" if hidden else params["model"]
        start = self.start.get(params["model"]) if isinstance(self.start, Mapping) else self.start
        name, run = f"trial-{number:03}", dict(self.run)
        size_px = run.pop("size_px")
        model, card = untrained(
            architecture,
            name=name,
            start=start,
            size_px=params.get("size_px", size_px),
            dropout=params.get("dropout"),
            seed=run["seed"],
        )
        callbacks = (watch, *run.pop("callbacks", ()))
        options = {**run, **rest}
        folder = self._folder(number)
        train_model(model, card=card, fresh=start is None, check="off", out=folder, callbacks=callbacks, **options)

    def _folder(self, number: int) -> Path:
        return self.folder / f"trial-{number:03}"

    def _trial(self, trial: Any) -> Trial:
        history = tuple(Epoch(**values) for values in trial.user_attrs["history"])
        best = max(history, key=lambda epoch: -math.inf if math.isnan(epoch.valid_auc) else epoch.valid_auc)
        diverged = "diverged" in trial.user_attrs
        return Trial(
            number=trial.number,
            params=dict(trial.params),
            auc=best.valid_auc,
            state="diverged" if diverged else str(trial.state.name).lower(),
            collapsed=bool(best.collapsed),
            history=history,
            seconds=trial.user_attrs["seconds"],
            folder=self._folder(trial.number) if self.kept else None,
        )

    def _sampler(self, optuna: Any, sampler: str, seed: int) -> Any:
        kinds = optuna.samplers
        if sampler == "grid":
            return kinds.GridSampler(self.space, seed=seed)
        return kinds.TPESampler(seed=seed) if sampler == "tpe" else kinds.RandomSampler(seed=seed)

    def _same_space(self, study: Any) -> None:
        space = json.dumps({name: list(values) for name, values in self.space.items()}, default=str)
        known = study.user_attrs.get("space")
        if known is None:
            study.set_user_attr("space", space)
        elif known != space:
            raise DatasetError(
                f"{self.folder} holds a search of the space {known}, expected {space}; choose another out"
            )


def _space(model: Any, space: Any, sampler: str) -> dict[str, Any]:
    """Return the settings to search, each a list of values or a range ``(low, high)``.

    Raises:
        InvalidOption: It is no mapping, a setting does not exist, or holds nothing to try; or a range in a grid.
    """
    models = [model] if isinstance(model, str) else list(model) if isinstance(model, Sequence) else []
    if not (models and all(isinstance(name, str) for name in models)):
        raise InvalidOption(f"model is {model!r}, expected a name of list_models(), or several")
    if not isinstance(space, Mapping):
        raise InvalidOption(f"space is {space!r}, expected a dict of settings, such as {{'lr': (1e-4, 1e-2)}}")
    known = [*SPACE, "size_px", "self_blend", *(item.name for item in fields(Schedule))]
    for name, values in space.items():
        if name not in known:
            raise InvalidOption(f"space has {name!r}, which is no setting{nearest(str(name), known)}")
        if isinstance(values, tuple):
            _check_range(name, values, sampler)
        elif not (isinstance(values, list) and values):
            raise InvalidOption(f"space[{name!r}] is {values!r}, expected a list of values, or a range (low, high)")
    return {"model": models, **space}


def _check_names(options: Mapping[str, Any]) -> None:
    of_data = ("labels", "augment", "faces", "self_blend", "check", "callbacks", "device", "dtype", "workers")
    known = [*of_data, *(item.name for item in fields(Schedule))]
    for name in options:
        if name not in known:
            raise InvalidOption(f"there is no option {name!r}{nearest(name, known)}")


def _check_range(name: str, ends: tuple[Any, ...], sampler: str) -> None:
    if sampler == "grid":
        raise InvalidOption(f"a grid takes lists, but {name} has a range; list the values to try")
    if len(ends) != 2:
        raise InvalidOption(f"space[{name!r}] is {ends!r}, expected a list of values, or a range (low, high)")
    low, high = (real_number(f"space[{name!r}]", end, low=-math.inf) for end in ends)
    if low >= high:
        raise InvalidOption(f"space[{name!r}] is {ends!r}, expected the lower end first")


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if not isinstance(values, tuple):
        return trial.suggest_categorical(name, list(values))
    low, high = values
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=low > 0 and high / low >= _LOG_FACTOR)


def _folder(out: Any) -> AbstractContextManager[Any]:
    return tempfile.TemporaryDirectory(prefix="deepfake-detect-") if out is None else nullcontext(out)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("a search needs optuna; run: pip install 'deepfake-detect[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _word(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
