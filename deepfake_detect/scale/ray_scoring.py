"""Score a data set on a Ray cluster: actors hold the model, pictures stream past them, Parquet files come out."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepfake_detect._options import check_number
from deepfake_detect.detector import Detector
from deepfake_detect.drawing.result import Result
from deepfake_detect.errors import InvalidOption, MissingExtra
from deepfake_detect.predict.intake import open_several
from deepfake_detect.scale.parts import PartFolder
from deepfake_detect.scale.rows import Row, fingerprint, marks_of, score_rows
from deepfake_detect.weights.onnx_file import find_weights

BATCH = 64
"""Pictures that an actor scores at a time, and rows of a Parquet file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredDataset(Result):
    """What a run of `score_dataset` did.

    Attributes:
        out: Folder of the Parquet files.
        scored: Pictures that were scored now.
        failed: Those of them that could not be read; their rows say why.
        kept: Pictures whose row was there from an earlier run.
        seconds: Duration of the run.
    """

    out: str
    scored: int
    failed: int
    kept: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def score_dataset(
    paths: Any,
    *,
    out: str | os.PathLike[str],
    model: str = "xception-fakefaces",
    actors: int | None = None,
    gpus_per_actor: float = 0,
    batch_size: int = BATCH,
) -> ScoredDataset:
    """Score many pictures on the Ray cluster that this process is connected to, or on this machine.

    A batch is on disk as soon as it is scored. The same call scores what is missing, failed or changed since: run it
    again after an interruption, or when pictures were added. Ray replaces an actor that died, and repeats its batch.

    Args:
        paths: A folder, a pattern, a list or a Series of paths that every node can open; or a ``ray.data.Dataset`` with
            a column ``path``, and optionally ``bytes`` with the content of each file.
        out: Folder of Parquet files, made where it is missing, or an address such as ``s3://bucket/scores.parquet``.
            One row for each picture; see `score_rows` for the columns.
        model: Packaged name, folder, ONNX file or Hub repository that every node can load.
        actors: Processes that hold the model; None takes one for each processor of the cluster, or for each GPU where
            ``gpus_per_actor`` is given.
        gpus_per_actor: Share of a GPU for each actor; 0 computes on processors.
        batch_size: Pictures that an actor takes at a time, and rows of a file.

    Returns:
        How many pictures were scored, failed and kept.

    Raises:
        MissingExtra: Ray is not installed.
        InvalidOption: No pictures, or an option out of range.
        UnknownWeights: No such model.
    """
    check_number("batch_size", batch_size, low=1, whole=True)
    check_number("actors", actors, low=1, whole=True, optional=True)
    check_number("gpus_per_actor", gpus_per_actor, low=0)
    ray, started = require_ray(), time.monotonic()
    card = find_weights(model).card
    parts = PartFolder(os.fspath(out), settings=fingerprint(card.to_json()))
    with _cluster(ray):
        pictures, kept = _pictures(ray, paths, parts)
        count = actors or _count_actors(ray, gpus_per_actor)
        counts = pictures.map_batches(
            Scorer,
            fn_constructor_kwargs={"model": model, "out": os.fspath(out), "gpu": gpus_per_actor > 0},
            batch_size=batch_size,
            num_cpus=1,
            num_gpus=gpus_per_actor or None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count),
        )
        scored, failed = 0, 0
        for batch in counts.iter_batches(batch_size=None):
            scored, failed = scored + int(sum(batch["scored"])), failed + int(sum(batch["failed"]))
    seconds = time.monotonic() - started
    return ScoredDataset(out=os.fspath(out), scored=scored, failed=failed, kept=kept, seconds=round(seconds, 3))


class Scorer:
    """Hold the model, and write the rows of each batch; Ray makes one in each of its actors.

    Args:
        model: As for `score_dataset`.
        out: As for `score_dataset`.
        gpu: Compute on the GPU that Ray gave.

    Attributes:
        settings: Fingerprint of everything that a row depends on beside the picture.
    """

    def __init__(self, *, model: str, out: str, gpu: bool = False) -> None:
        self._detector = Detector.from_pretrained(model, device="cuda" if gpu else "cpu")
        self.settings = fingerprint(self._detector.card.to_json())
        self._parts = PartFolder(out, settings=self.settings)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[int]]:
        """Score a batch with the columns ``path`` and, where there is one, ``bytes``; count the rows."""
        names = [str(path) for path in batch["path"]]
        marks = [marks_of(name) for name in names]  # before the file is opened: a change meanwhile shows later
        images = [bytes(content) for content in batch["bytes"]] if "bytes" in batch else names
        rows = [
            {**row, **mark} for row, mark in zip(score_rows(self._detector, images, names=names), marks, strict=True)
        ]
        self._parts.write(rows)
        return {"scored": [len(rows)], "failed": [sum(row["error"] is not None for row in rows)]}


def missing(names: Iterable[str], done: Mapping[str, Row]) -> list[str]:
    """Return the pictures, each once, that have no row, or have changed since."""
    return [name for name in dict.fromkeys(names) if done.get(name) != marks_of(name)]


def require_ray() -> Any:
    """Import Ray Data.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtra("score_dataset needs Ray; run: pip install 'deepfake-detect[ray]'") from error
    return ray


def _pictures(ray: Any, paths: Any, parts: PartFolder) -> tuple[Any, int]:
    """Return a Ray data set of what has to be scored, and how many pictures have their row."""
    done = parts.done()
    if isinstance(paths, ray.data.Dataset):
        if "path" not in paths.columns():
            raise InvalidOption(
                f"the data set has the columns {', '.join(paths.columns())}, expected one called 'path'"
            )
        names = [str(row["path"]) for row in paths.select_columns(["path"]).iter_rows()]
    else:
        names = [os.fspath(path) for path in open_several(paths)]
    if not names:
        raise InvalidOption("no pictures, expected at least one path")
    wanted = missing(names, done)
    parts.drop(wanted)
    kept = len(set(names)) - len(wanted)
    if isinstance(paths, ray.data.Dataset):
        chosen = frozenset(wanted)
        return paths.filter(lambda row: str(row["path"]) in chosen), kept
    return ray.data.from_items([{"path": name} for name in wanted]), kept


def _count_actors(ray: Any, gpus_per_actor: float) -> int:
    resources = ray.cluster_resources()
    count = resources.get("GPU", 0) / gpus_per_actor if gpus_per_actor else resources.get("CPU", 1)
    return max(1, int(count))


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Use the cluster of the process, or start Ray on this machine for the time of the call, without its statistics."""
    if ray.is_initialized():
        yield
        return
    name = "RAY_USAGE_STATS_ENABLED"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        ray.init(include_dashboard=False, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
