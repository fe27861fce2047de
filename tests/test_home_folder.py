"""Test that ``~`` means the home folder in every path, of the library and of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import deepfake_detect as dd
from deepfake_detect.cli.main import main
from tests.inputs.test_frames import write_video
from tests.small_world import PORTRAIT, small_bundle


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a home folder with a picture, a video, a data set and a bundle."""
    folder = tmp_path_factory.mktemp("home")
    for label in ("real", "fake"):
        (folder / "faces" / label).mkdir(parents=True)
        Image.open(PORTRAIT).resize((256, 256)).save(folder / "faces" / label / "a.jpg")
    Image.open(PORTRAIT).save(folder / "a.jpg")
    write_video(folder / "a.avi")
    small_bundle(folder / "bundle")
    return folder


@pytest.fixture(autouse=True)
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(tmp_path)


def test_the_library_reads_and_writes_in_the_home_folder(home: Path, tmp_path: Path) -> None:
    detector = dd.Detector.from_pretrained("~/bundle", device="cpu")
    prediction = detector.predict("~/a.jpg")
    assert len(detector.predict("~/faces")) == len(detector.predict("~/faces/*/*.jpg")) == 2
    assert detector.predict_video("~/a.avi", max_frames=2).label
    assert dd.find_faces("~/a.jpg") and dd.inspect_metadata("~/a.jpg") is not None
    assert dd.audit("~/faces", faces=False).n == 2
    prediction.save("~/case.json")
    assert dd.verify("~/case.json", "~/a.jpg", model="~/bundle").ok
    prediction.save("~/drawn.png")
    prediction.save_crops("~/crops")
    detector.predict(["~/a.jpg"]).save_crops("~/more")
    dd.inspect_metadata("~/a.jpg").save("~/findings.json")
    dd.audit("~/faces", faces=False).save("~/audit.html")
    detector.save_pretrained("~/saved")
    report = detector.evaluate("~/faces", rounds=2)
    report.save("~/report")
    report.save(Path("~/report2"))
    written = {"case.json", "drawn.png", "crops", "more", "findings.json", "audit.html", "saved", "report", "report2"}
    assert written <= {path.name for path in home.iterdir()}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("predict ~/a.jpg --model ~/bundle --save=~/o/save --evidence=~/o/evidence", "save/a.png evidence"),
        ("predict ~/faces --model ~/bundle --out=~/o/scores.csv", "scores.csv"),
        ("predict ~/faces/*/*.jpg --model ~/bundle --out=~/o/scores.jsonl", "scores.jsonl"),
        ("video ~/a.avi --model ~/bundle --max-frames 2 --save=~/o/video", "video/a.png"),
        ("stability ~/a.jpg --model ~/bundle --save=~/o/stability", "stability/a.png"),
        ("sheet ~/faces --model ~/bundle --out=~/o/sheet.jpg", "sheet.jpg"),
        ("audit ~/faces --save=~/o/audit.json", "audit.json"),
        ("evaluate ~/faces --model ~/bundle --save=~/o/report", "report/report.html"),
        ("download ~/bundle --to=~/o/weights", "weights"),
    ],
)
def test_the_command_line_reads_and_writes_in_the_home_folder(
    home: Path, tmp_path: Path, command: str, written: str
) -> None:
    (home / "o").mkdir(exist_ok=True)
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 0, (result.output, result.exception)
    assert all((home / "o" / name).exists() for name in written.split())
    assert list(tmp_path.iterdir()) == []
