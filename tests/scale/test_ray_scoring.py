"""Is a data set scored once, as on one machine, whatever is interrupted?"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from deepfake_detect import Detector, InvalidOption, MissingExtra, score_dataset
from deepfake_detect.scale.parts import PartFolder
from deepfake_detect.scale.ray_scoring import Scorer, missing, require_ray
from deepfake_detect.scale.rows import marks_of, score_rows
from tests.small_world import PORTRAIT, small_bundle

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def album(tmp_path: Path) -> list[str]:
    folder = tmp_path / "album"
    folder.mkdir()
    files = [Path(shutil.copy(PORTRAIT, folder / f"{number}.jpg")) for number in range(4)]
    files[2].write_bytes(b"no picture")
    return [str(file) for file in files]


def by_path(parts: PartFolder) -> dict[str, dict[str, Any]]:
    rows = parts.read().to_pylist()
    assert len({row["path"] for row in rows}) == len(rows)  # nothing twice
    return {row["path"]: row for row in rows}


def test_rows_are_the_verdicts_of_the_detector(bundle: str, album: list[str]) -> None:
    detector = Detector.from_pretrained(bundle, device="cpu")
    rows = score_rows(detector, album)
    assert [row["path"] for row in rows] == album
    expected = detector.predict(PORTRAIT)
    assert rows[0]["score"] == pytest.approx(expected.score) and rows[0]["label"] == expected.label
    assert rows[0]["faces"][0]["box_xyxy"] == list(expected.faces[0].box_xyxy)
    assert rows[2]["label"] == "error" and "no picture" in rows[2]["error"] and rows[2]["score"] is None
    assert {row["weights_sha256"] for row in rows} == {detector.card.sha256}


def test_a_batch_that_is_scored_twice_replaces_itself(bundle: str, album: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    scorer = Scorer(model=bundle, out=str(out))
    for _ in range(2):
        assert scorer({"path": album}) == {"scored": [4], "failed": [1]}
    (file,) = out.iterdir()
    assert file.suffix == ".parquet"
    content = PORTRAIT.read_bytes()
    scorer({"path": ["s3://bucket/a.jpg"], "bytes": [content]})
    rows = by_path(PartFolder(str(out), settings=""))
    assert rows["s3://bucket/a.jpg"]["score"] == pytest.approx(rows[album[0]]["score"])
    assert rows["s3://bucket/a.jpg"]["size_bytes"] is None and rows[album[0]]["size_bytes"] == len(content)


def test_what_is_missing_failed_or_changed_is_scored_again(bundle: str, album: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "scores.parquet")
    scorer = Scorer(model=bundle, out=out)
    scorer({"path": album})
    parts = PartFolder(out, settings=scorer.settings)
    assert missing([*album, "new.jpg", "new.jpg"], parts.done()) == [album[2], "new.jpg"]
    os.utime(album[1], ns=(0, 0))
    assert missing(album, parts.done()) == [album[1], album[2]]
    assert missing(album, PartFolder(out, settings="other weights").done()) == album
    parts.drop([album[1], album[2]])
    assert sorted(by_path(parts)) == [album[0], album[3]]
    parts.drop(album)
    assert not list(Path(out).iterdir()) and parts.read().num_rows == 0


def test_a_batch_that_cannot_be_written_leaves_nothing(
    bundle: str, album: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = PartFolder(str(tmp_path / "out"), settings="a")
    row = {**score_rows(Detector.from_pretrained(bundle, device="cpu"), album[:1])[0], **marks_of(album[0])}
    parts.write([row])
    before = by_path(parts)
    write = parquet.write_table

    def write_until_the_disk_is_full(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        raise OSError("disk full")

    monkeypatch.setattr(parquet, "write_table", write_until_the_disk_is_full)
    with pytest.raises(OSError, match="disk full"):
        parts.write([row, {**row, "path": "b.jpg"}])
    assert by_path(PartFolder(str(tmp_path / "out"), settings="a")) == before
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(InvalidOption, match="is a file, expected a folder"):
        PartFolder(str(tmp_path / "a.parquet"), settings="a")
    with pytest.raises(InvalidOption, match="expected a path or an address"):
        PartFolder("nonsense://a", settings="a")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, bundle: str, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"deepfake-detect\[ray\]"):
        score_dataset([str(PORTRAIT)], out=tmp_path / "out", model=bundle)
    with pytest.raises(InvalidOption, match="actors"):
        score_dataset([str(PORTRAIT)], out=tmp_path / "out", model=bundle, actors=0)


@pytest.mark.filterwarnings("ignore")  # of Ray itself
def test_ray_scores_as_one_machine_does_and_continues(bundle: str, album: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "scores.parquet"
    first = score_dataset(album[:3], out=out, model=bundle, actors=1, batch_size=2)
    assert (first.scored, first.failed, first.kept) == (3, 1, 0)
    second = score_dataset(str(Path(album[0]).parent), out=out, model=bundle, actors=1, batch_size=2)
    assert (second.scored, second.failed, second.kept) == (2, 1, 2)  # the unreadable one is tried again
    rows = by_path(PartFolder(str(out), settings=""))
    alone = score_rows(Detector.from_pretrained(bundle, device="cpu"), album)
    assert sorted(rows) == album
    for row in alone:
        assert rows[row["path"]]["score"] == (None if row["score"] is None else pytest.approx(row["score"], abs=1e-3))
    assert not require_ray().is_initialized()


def load_example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_for_other_engines_give_the_same_columns(album: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    spark = load_example("scale_spark")
    (frame,) = spark.score(iter([pandas.Series(album)]))
    assert list(frame.columns) == [field.split()[0] for field in spark.SCHEMA.split(", ")]
    assert list(frame["path"]) == album and frame["label"][2] == "error"
    pytest.importorskip("datasets")
    batch = load_example("scale_datasets").score({"path": album})
    assert batch["score"][0] == pytest.approx(frame["score"][0]) and batch["path"] == album
