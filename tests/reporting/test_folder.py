"""Test folders of reports: names, the index, runs that are continued, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deepfake_detect import Detector, InvalidOption
from deepfake_detect.cli.main import main
from deepfake_detect.reporting import folder as folder_module
from deepfake_detect.reporting.folder import ReportFolder
from tests.provenance.made_files import encode
from tests.small_world import PORTRAIT, empty_scene, small_bundle

QUICK = ("--no-explain", "--no-stability")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("weights") / "small")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Write two pictures of the same name and one that is none."""
    for name, content in (("a", PORTRAIT.read_bytes()), ("b", encode(Image.fromarray(empty_scene())))):
        (tmp_path / "album" / name).mkdir(parents=True)
        (tmp_path / "album" / name / "photo.jpg").write_bytes(content)
    (tmp_path / "album" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "album"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["report", *(str(argument) for argument in arguments)])


def test_pictures_of_one_name_have_pages_of_their_own_and_failures_are_on_the_index(album: Path, bundle: Path) -> None:
    done = run(album, "--model", bundle, "--out", album / "out", "--json", *QUICK)
    rows = json.loads(done.stdout)
    assert done.exit_code == 1 and "broken.jpg" in done.stderr and "index.html" in done.stderr
    pages = {row["name"]: row["page"] for row in rows if not row["error"]}
    assert len(set(pages.values())) == 2 and all(Path(page).name.startswith("photo-") for page in pages.values())
    index = (album / "out" / "index.html").read_text("utf-8")
    assert all(f'href="{Path(page).name}"' in index for page in pages.values())
    assert "No report: " in index and "3 pictures" in index and "1 could not be scored" in index
    assert all('href="index.html"' in Path(page).read_text("utf-8") for page in pages.values())
    names = sorted(path.suffix for path in (album / "out").iterdir())
    assert names == [".html", ".html", ".html", ".json", ".json"]


def test_what_fails_is_named_among_the_lines(album: Path, bundle: Path) -> None:
    done = run(album / "broken.jpg", album / "a", "--model", bundle, "--out", album / "out", *QUICK)
    first, second, third = done.stdout.splitlines()
    assert done.exit_code == 1 and first.split() == ["error", "-", str(album / "broken.jpg")]
    assert second.endswith("photo.jpg") and third.strip().startswith(str(album / "out" / "photo-"))


def test_one_picture_needs_no_index(bundle: Path, tmp_path: Path) -> None:
    done = run(PORTRAIT, "--model", bundle, "--out", tmp_path / "new" / "out", *QUICK)
    assert done.exit_code == 0 and str(next((tmp_path / "new" / "out").glob("*.html"))) in done.stdout
    assert not (tmp_path / "new" / "out" / "index.html").exists()


def test_a_run_that_was_cut_off_is_continued(
    album: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector = Detector.from_pretrained(bundle, device="cpu")
    photos, options = [album / "a" / "photo.jpg", album / "b" / "photo.jpg"], {"explain": False, "stability": False}
    first = ReportFolder(tmp_path, predictor=detector, **options).add(photos[0])
    made: list[str] = []
    report_image = folder_module.report_image

    def count(predictor: Any, image: Any, **rest: Any) -> Any:
        made.append(image.name)
        return report_image(predictor, image, **rest)

    monkeypatch.setattr(folder_module, "report_image", count)
    again = ReportFolder(tmp_path, predictor=detector, **options)
    written = [again.add(photo) for photo in photos]
    assert [report.is_new for report in written] == [False, True] and made == [str(photos[1])]
    assert (written[0].label, written[0].score) == (first.label, first.score)
    index = again.finish()
    assert index is not None and index.read_text("utf-8").count("<li>") == 2
    ReportFolder(tmp_path, predictor=detector, **options, threshold=0.1).add(photos[0])  # another verdict
    first.case_file.unlink()
    assert ReportFolder(tmp_path, predictor=detector, **options).add(photos[0]).is_new
    assert len(made) == 3


def test_pages_of_other_names_weights_and_thresholds_stand_side_by_side(bundle: Path, tmp_path: Path) -> None:
    detector = Detector.from_pretrained(bundle, device="cpu")
    other = Detector.from_pretrained(small_bundle(tmp_path / "weights", name="other"), device="cpu")
    options: dict[str, Any] = {"explain": False, "stability": False}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.jpg").write_bytes(PORTRAIT.read_bytes())
    photo, same_content = tmp_path / "a" / "photo.jpg", tmp_path / "b" / "photo.jpg"
    runs = [
        (detector, photo, {}), (other, photo, {}), (detector, photo, {"threshold": 0.9}),
        (detector, photo, {"faces": "none"}), (detector, same_content, {}),
    ]  # fmt: skip
    out = tmp_path / "out"
    for _ in range(2):  # a second run finds each page of its own
        written = [
            ReportFolder(out, predictor=predictor, **options, **more).add(image) for predictor, image, more in runs
        ]
        assert len({report.page for report in written}) == len(list(out.glob("*.json"))) == len(runs)
    for (predictor, image, more), report in zip(runs, written, strict=True):
        case = json.loads(report.case_file.read_text("utf-8"))
        assert not report.is_new
        assert (case["input"]["name"], case["weights"]["id"]) == (str(image), predictor.card.id)
        assert case["settings"]["threshold"] == more.get("threshold") and str(image) in report.page.read_text("utf-8")


def test_files_of_somebody_else_stay(bundle: Path, tmp_path: Path) -> None:
    detector = Detector.from_pretrained(bundle, device="cpu")
    for ending in ("html", "json"):
        (tmp_path / f"portrait-9de5c39d.{ending}").write_text("mine")
        report = ReportFolder(tmp_path, predictor=detector, explain=False, stability=False).add(PORTRAIT)
        assert report.page.name == "portrait-9de5c39d-2.html"
        assert (tmp_path / f"portrait-9de5c39d.{ending}").read_text() == "mine"
        (tmp_path / f"portrait-9de5c39d.{ending}").unlink()


def test_a_failure_leaves_no_half_page(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from deepfake_detect.system import atomic

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    reports = ReportFolder(
        tmp_path, predictor=Detector.from_pretrained(bundle, device="cpu"), explain=False, stability=False
    )
    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(InvalidOption, match="No space left on device"):
        reports.add(PORTRAIT)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = run(PORTRAIT, "--model", bundle, "--out", tmp_path / "file" / "out")
    assert blocked.exit_code == 2 and "choose another folder" in blocked.stderr
    (tmp_path / "index.html").write_text("<h1>My pages</h1>")
    foreign = run(PORTRAIT, PORTRAIT, "--model", bundle, "--out", tmp_path)
    assert foreign.exit_code == 2 and "was not written by this program" in foreign.stderr
    assert (tmp_path / "index.html").read_text() == "<h1>My pages</h1>"


def test_a_video_and_an_unknown_method_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    clip = run(tmp_path / "clip.mp4", "--model", bundle, "--out", tmp_path / "out", *QUICK)
    assert clip.exit_code == 1 and "deepfake-detect video" in clip.stderr
    wrong = run(PORTRAIT, "--model", bundle, "--out", tmp_path / "out", "--method", "grad-cat")
    assert wrong.exit_code == 2 and "grad-cam" in wrong.stderr
