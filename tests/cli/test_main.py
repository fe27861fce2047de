"""Test that the command line finds its pictures, prints its results, and exits with the right status."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import deepfake_detect
from deepfake_detect import list_models
from deepfake_detect.cli.main import main
from deepfake_detect.cli.paths import expand_paths
from deepfake_detect.drawing.gallery import draw_sheet
from deepfake_detect.faces import finder as finder_module
from deepfake_detect.models.names import ARCHITECTURES
from deepfake_detect.weights import bundle as bundle_module
from tests.small_world import PORTRAIT, empty_scene, group, small_bundle, small_detector

ROOT = Path(deepfake_detect.__file__).parents[1]
COMMANDS = Path(deepfake_detect.__file__).parent / "cli"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with one portrait, a group of two and a scene without a face, in folders."""
    monkeypatch.chdir(tmp_path)
    for folder in ("shots/deep", "shots/.hidden"):
        Path(folder).mkdir(parents=True)
    shutil.copy(PORTRAIT, "shots/one.jpg")
    shutil.copy(PORTRAIT, "shots/.hidden/one.jpg")
    Path("shots/._one.jpg").write_bytes(b"left by another system")
    Path("shots/notes.txt").write_text("no picture")
    Image.fromarray(group(2)).save("shots/deep/two.PNG")
    Image.fromarray(empty_scene()).save("shots/deep/none.webp", lossless=True)
    return tmp_path


def run(*arguments: object, **options: Any) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def predict(bundle: str, *arguments: object, **options: Any) -> Result:
    return run("predict", "--model", bundle, "--device", "cpu", *arguments, **options)


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_help_needs_neither_torch_nor_numpy() -> None:
    done = python(
        "from deepfake_detect.cli.main import main; main(['predict', '--help'], standalone_mode=False); "
        "print(sorted({'torch', 'timm', 'numpy', 'cv2', 'PIL', 'huggingface_hub'} & set(sys.modules)), file=sys.stderr)"
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "--batch-size" in done.stdout


def test_the_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deepfake_detect", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == f"deepfake-detect, version {deepfake_detect.__version__}\n"


def test_json_is_what_python_gives(bundle: str, pictures: Path) -> None:
    result = predict(bundle, "shots", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    values = json.loads(result.stdout)
    assert [row["name"] for row in values] == ["shots/one.jpg", "shots/deep/none.webp", "shots/deep/two.PNG"]
    assert [row["label"] for row in values][1] == "no-face"
    expected = small_detector().predict("shots/deep/two.PNG").to_dict()
    assert {**values[2], "seconds": 0} == {**expected, "seconds": 0}
    assert len(values[2]["faces"]) == 2


def test_json_lines_and_tables_say_the_same(bundle: str, pictures: Path) -> None:
    as_json = json.loads(predict(bundle, "shots", "--json").stdout)
    as_lines = [json.loads(line) for line in predict(bundle, "shots", "--jsonl").stdout.splitlines()]
    as_table = list(csv.DictReader(io.StringIO(predict(bundle, "shots", "--csv").stdout)))
    assert [{**row, "seconds": 0} for row in as_lines] == [{**row, "seconds": 0} for row in as_json]
    for row, cells in zip(as_json, as_table, strict=True):
        assert (cells["name"], cells["label"], cells["model"]) == (row["name"], row["label"], row["model"])
        assert cells["score"] == ("" if row["score"] is None else str(row["score"]))
        assert [cells["height"], cells["width"]] == [str(side) for side in row["size_hw"]]
        assert cells["faces"] == str(len(row["faces"]))


def test_lines_for_people_are_aligned(bundle: str, pictures: Path) -> None:
    result = predict(bundle, "shots")
    lines = result.stdout.splitlines()
    assert [line[19:] for line in lines if line[19] != " "] == [
        *("shots/one.jpg", "shots/deep/none.webp", "shots/deep/two.PNG  (2 faces)"),
    ]
    assert [line[:9].strip() for line in lines][1] == "no-face"
    assert len(lines) == 5
    for line in lines:
        assert line[11:17] == "     -" or 0 <= float(line[11:17]) <= 1
    assert "\x1b" not in result.stdout
    assert "\x1b[32mreal" in predict(bundle, "shots/one.jpg", color=True).stdout


def test_lines_come_as_pictures_are_scored(bundle: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finder_module.FaceFinder.find

    def find(self: Any, pixels: np.ndarray, **options: Any) -> Any:
        if pixels.shape[0] == 120:
            raise ZeroDivisionError
        return whole(self, pixels, **options)

    monkeypatch.setattr(finder_module.FaceFinder, "find", find)
    result = CliRunner().invoke(main, ["predict", "--model", bundle, "--jsonl", "shots/one.jpg", "shots/deep"])
    assert isinstance(result.exception, ZeroDivisionError)
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == ["shots/one.jpg"]


def test_standard_input(bundle: str, pictures: Path) -> None:
    (row,) = json.loads(predict(bundle, "-", "--json", input=PORTRAIT.read_bytes()).stdout)
    assert (row["name"], len(row["faces"])) == ("-", 1)
    result = predict(bundle, "-", "--json", input=b"")
    (row,) = json.loads(result.stdout)
    assert (result.exit_code, row["name"], row["label"]) == (1, "-", "error")


def test_paths(pictures: Path) -> None:
    assert expand_paths(["shots"]) == ["shots/one.jpg", "shots/deep/none.webp", "shots/deep/two.PNG"]
    assert expand_paths(["shots/*"]) == [
        "shots/deep/none.webp",
        "shots/deep/two.PNG",
        "shots/notes.txt",
        "shots/one.jpg",
    ]
    assert expand_paths(["shots/**/*.PNG", "shots/o?e.jpg"]) == ["shots/deep/two.PNG", "shots/one.jpg"]
    as_it_is = [
        "-",
        "https://example.org/a*b.jpg",
        "data:image/png;base64,AAAA",
        "shots/notes.txt",
        "missing/*.jpg",
        "no.jpg",
    ]
    assert expand_paths(as_it_is) == as_it_is
    Path("a[1].jpg").touch()
    Path("empty").mkdir()
    assert expand_paths(["a[1].jpg", "empty"]) == ["a[1].jpg", "empty"]


def test_what_cannot_be_scored_is_named_twice(bundle: str, pictures: Path) -> None:
    Path("empty").mkdir()
    bad = ["shots/notes.txt", "missing/*.jpg", "no.jpg", "empty"]
    for style in ("--json", "--jsonl", "--csv", None):
        result = predict(bundle, "shots/one.jpg", *bad, "shots/deep", *filter(None, [style]))
        assert result.exit_code == 1
        for name in bad:
            assert name in result.stdout
            assert name in result.stderr
        assert len(result.stderr.splitlines()) == 4
        assert "two.PNG" in result.stdout
    rows = json.loads(predict(bundle, *bad, "--json").stdout)
    assert [row["error"]["type"] for row in rows] == ["ImageUnreadable"] * 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "a.jpg", "--threshold", "2"],
        ["predict", "a.jpg", "--faces", "every"],
        ["predict", "a.jpg", "--batch-size", "0"],
        ["predict", "a.jpg", "--json", "--csv"],
        ["predict", "a.jpg", "--no-such-option"],
        ["prdict", "a.jpg"],
        ["faces"],
        ["faces", "a.jpg", "--json", "--jsonl"],
        ["doctor", "now"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_wrong_names_are_status_2_with_what_is_right(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "PRETRAINED", tmp_path)
    small_bundle(tmp_path / "meso4-fakefaces@0", name="meso4-fakefaces")
    result = run("predict", PORTRAIT, "--model", "mezo4-fakefaces")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'meso4-fakefaces" in result.stderr
    result = run("predict", PORTRAIT, "--model", bundle, "--device", "toaster")
    assert result.exit_code == 2
    assert "no device 'toaster'" in result.stderr


def test_options_reach_the_detector(bundle: str, pictures: Path) -> None:
    def rows(*options: str) -> Any:
        return json.loads(predict(bundle, "shots/deep", "--json", *options).stdout)

    assert [len(row["faces"]) for row in rows("--faces", "largest")] == [0, 1]
    assert [len(row["faces"]) for row in rows("--faces", "none", "--batch-size", "1", "--workers", "0")] == [1, 1]
    assert [row["threshold"] for row in rows("--threshold", "0.25")] == [0.25, 0.25]
    assert [face["label"] for face in rows("--threshold", "0")[1]["faces"]] == ["fake", "fake"]


def saved(folder: Path) -> dict[str, str]:
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.json")}
    return {path.stem: json.loads(path.read_text())["path"] for path in sorted(folder.glob("*.json"))}


def test_saved_results(bundle: str, pictures: Path) -> None:
    out = pictures / "out" / "here"
    assert predict(bundle, "shots", "shots/notes.txt", "--save", out).exit_code == 1
    assert saved(out) == {name.split("/")[-1].split(".")[0]: str(pictures / name) for name in
                          ("shots/deep/none.webp", "shots/one.jpg", "shots/deep/two.PNG")}  # fmt: skip
    kept = json.loads((out / "two.json").read_text())
    assert kept["name"] == "shots/deep/two.PNG"
    assert len(kept["faces"]) == 2
    with Image.open(out / "two.png") as drawn, Image.open("shots/deep/two.PNG") as original:
        assert drawn.width / drawn.height == pytest.approx(original.width / original.height, rel=0.01)


def test_saved_results_of_other_pictures_stay(bundle: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other/deep").mkdir(parents=True)
    for copy in ("other/one.jpg", "other/deep/one.jpeg"):
        shutil.copy(PORTRAIT, copy)
    out = pictures / "out"
    predict(bundle, "shots/one.jpg", "--save", out)
    predict(bundle, "other/one.jpg", "other/deep/one.jpeg", "--save", out)
    assert saved(out) == {
        "one": str(pictures / "shots/one.jpg"),
        "one-2": str(pictures / "other/one.jpg"),
        "one-3": str(pictures / "other/deep/one.jpeg"),
    }
    monkeypatch.chdir(pictures / "other")
    predict(bundle, "one.jpg", "--save", out)  # the same picture from elsewhere: replaced
    assert len(saved(out)) == 3
    monkeypatch.chdir(pictures / "shots" / "deep")
    shutil.copy(PORTRAIT, "one.jpg")  # another one of the same name
    predict(bundle, "one.jpg", "--save", out)
    assert saved(out)["one-4"] == str(pictures / "shots/deep/one.jpg")


def test_saved_results_of_standard_input_stay(bundle: str, pictures: Path) -> None:
    for _ in range(2):
        predict(bundle, "-", "--save", "out", input=PORTRAIT.read_bytes())
    Path("out/stdin-3.png").write_bytes(b"somebody's own")
    Path("out/stdin-4.json").write_text("[]")
    predict(bundle, "-", "--save", "out", input=PORTRAIT.read_bytes())
    assert Path("out/stdin-3.png").read_bytes() == b"somebody's own"
    assert sorted(path.name for path in Path("out").glob("*.json")) == [
        *("stdin-2.json", "stdin-4.json", "stdin-5.json", "stdin.json"),
    ]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names there are always Unicode")
def test_names_that_are_not_unicode(bundle: str, pictures: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(PORTRAIT, name)
    for style in ("--json", "--csv", "--jsonl"):
        result = predict(bundle, name, name + "x", style, "--save", "out")
        assert result.exit_code == 1
        assert "caf\\udce9.jpg" in result.stdout
        assert "caf\\udce9.jpgx" in result.stderr
    assert json.loads(predict(bundle, name, "--json").stdout)[0]["name"] == name
    assert len(list(Path("out").iterdir())) == 2


def test_faces(pictures: Path) -> None:
    result = run("faces", "shots", "--json")
    rows = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [len(row["faces"]) for row in rows] == [1, 0, 2]
    assert rows[0]["size_hw"] == [512, 512]
    (face,) = deepfake_detect.find_faces(PORTRAIT)
    assert rows[0]["faces"][0]["box_xyxy"] == pytest.approx(face.box_xyxy)
    table = list(csv.DictReader(io.StringIO(run("faces", "shots", "--csv").stdout)))
    assert [cells["name"] for cells in table] == ["shots/one.jpg", "shots/deep/two.PNG", "shots/deep/two.PNG"]
    assert float(table[0]["left"]) == pytest.approx(face.box_xyxy[0])
    text = run("faces", "shots").stdout.splitlines()
    assert [line for line in text if not line.startswith(" ")] == [
        *("1 face     shots/one.jpg", "0 faces    shots/deep/none.webp", "2 faces    shots/deep/two.PNG"),
    ]
    result = run("faces", "shots/notes.txt", "-", "--jsonl", input=PORTRAIT.read_bytes())
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, rows[0]["error"]["type"], rows[1]["name"]) == (1, "ImageUnreadable", "-")
    assert "shots/notes.txt" in result.stderr


def test_paths_that_hold_something_else_name_the_right_command(bundle: str, pictures: Path) -> None:
    Path("empty").mkdir()
    Path("clips").mkdir()
    for name in ("clips/a.mp4", "clips/b.MOV", "shots/c.webm"):
        Path(name).write_bytes(b"no real video")
    result = predict(bundle, "empty", "clips", "clips/a.mp4", "shots/one.jpg", "--json")
    errors = {row["name"]: row["error"] and row["error"]["message"] for row in json.loads(result.stdout)}
    assert errors["empty"].startswith("empty holds no picture (looked in it")
    assert errors["clips"] == "clips holds no picture but 2 videos; run: deepfake-detect video clips"
    assert errors["clips/a.mp4"].endswith("expected a picture; run: deepfake-detect video clips/a.mp4")
    assert errors["shots/one.jpg"] is None
    assert all(message in result.stderr for message in errors.values() if message)
    mixed = predict(bundle, "shots")
    assert (mixed.exit_code, mixed.stderr) == (0, "1 video in shots left out; run: deepfake-detect video shots\n")
    for command in ("faces", "stability", "explain"):
        assert "video clips" in run(command, "clips").stderr
    result = run("video", "shots/one.jpg", "shots/deep", "empty", "--model", bundle, "--jsonl")
    rows = [json.loads(line)["error"] for line in result.stdout.splitlines()]
    assert rows[1]["message"] == "shots/deep holds no video but 2 pictures; run: deepfake-detect predict shots/deep"
    assert rows[2]["message"].startswith("empty holds no video")


def test_every_command_is_listed_with_a_sentence() -> None:
    text = run("--help").stdout
    files = {path.stem.removeprefix("command_").replace("_", "-") for path in COMMANDS.glob("command_*.py")}
    listed = main.list_commands(click.Context(main))
    assert set(listed) == files
    assert [name for name in listed if name in text.split()] == listed
    assert "Other:" not in text and "..." not in text.partition("ARGS]...")[2]
    for name in listed:
        command = main.get_command(click.Context(main), name)
        assert command and (command.help or "").split("\n")[0].endswith("."), name
        undocumented = [o.name for o in command.params if isinstance(o, click.Option) and not o.help]
        assert undocumented == [], f"{name}: options without help"


def test_an_unlisted_command_stands_under_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepfake_detect.cli.main.SECTIONS", {"Pictures": ("predict",)})
    text = run("--help").stdout
    assert text.index("Pictures:") < text.index("  predict") < text.index("Other:") < text.index("  audit")


def test_one_command_loads_no_other() -> None:
    done = python(
        "from deepfake_detect.cli.main import main; main(['models', '--help'], standalone_mode=False); "
        "print([name for name in sys.modules if 'cli.command' in name], file=sys.stderr)"
    )
    assert done.stderr == "['deepfake_detect.cli.command_models']\n"


def test_models_needs_no_torch() -> None:
    done = python(
        "from deepfake_detect.cli.main import main; main(['models'], standalone_mode=False); "
        "print({'torch', 'timm', 'cv2', 'PIL'} & set(sys.modules), file=sys.stderr)"
    )
    assert done.stderr == "set()\n"
    assert "xception-fakefaces@1  0.929  110" in done.stdout


def test_the_speed_of_every_packaged_detector_is_that_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "speed.md").read_text("utf-8")
    cards = json.loads(run("models", "--json").stdout)["pretrained"]
    for card in cards:
        assert f"| `{card['name']}@{card['version']}` | {card['ms_per_face']:g} ms |" in page
        assert card["size_bytes"] > 50_000 and 0.5 < card["auc"] < 1


def test_names_of_architectures_are_those_of_the_registry() -> None:
    assert list(ARCHITECTURES) == list_models()


def test_a_sheet_shows_every_picture(bundle: str, pictures: Path) -> None:
    result = run("sheet", "shots", "shots/notes.txt", "--model", bundle, "--columns", 2, "--out", "out/all.jpg")
    assert (result.exit_code, result.stdout) == (1, "out/all.jpg: 4 pictures of 4\n")
    assert "shots/notes.txt" in result.stderr
    rows = [json.loads(line) for line in predict(bundle, "shots", "--jsonl").stdout.splitlines()]
    with Image.open("out/all.jpg") as sheet:
        assert sheet.height > sheet.width > 500  # two rows of two
    predictions = small_detector().predict_many([row["name"] for row in rows[:2]])
    draw_sheet(predictions, columns=2, count=1).save("expected.png")
    result = run("sheet", "shots", "--model", bundle, "--device", "cpu", "--columns", 2, "--count", 1, "--out", "a.png")
    assert (result.exit_code, result.stdout) == (0, "a.png: 1 picture of 3\n")
    with Image.open("a.png") as drawn, Image.open("expected.png") as expected:
        assert drawn.tobytes() == expected.tobytes()
    assert run("sheet", "shots", "--out", "a.gif").exit_code == 2


def test_download_copies_weights_that_load(bundle: str, tmp_path: Path) -> None:
    for _ in range(2):  # again over an earlier copy
        result = run("download", "meso4-fakefaces", bundle, "--to", tmp_path / "to")
        assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"meso4-fakefaces@1: 0.1 MB in {tmp_path / 'to' / 'meso4-fakefaces@1'}"
    for folder in (tmp_path / "to").iterdir():
        assert {path.name for path in folder.iterdir()} == {"card.json", "model.safetensors"}
        assert deepfake_detect.Detector.from_pretrained(folder).card.id == folder.name
    weights = tmp_path / "to" / "meso4-fakefaces@1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    damaged = run("download", weights.parent, "--to", tmp_path / "again")
    assert damaged.exit_code == 1 and "WeightsCorrupted" in damaged.stderr
    assert not (tmp_path / "again").exists()
    assert run("download", "meso5", "--to", tmp_path).exit_code == 2


def test_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "PRETRAINED", tmp_path)
    small_bundle(tmp_path / "small@3", version=3, licence="of the test: no more")
    shutil.copy(ROOT / "deepfake_detect" / "pretrained" / "speed.json", tmp_path)
    text = run("models").stdout
    assert "small@3" in text
    assert "of the test\n" in text
    assert all(name in text for name in list_models())
    values = json.loads(run("models", "--json").stdout)
    assert [card["name"] for card in values["pretrained"]] == ["small"]
    assert values["architectures"] == list_models()


def test_doctor_leaves_with_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    health: Any = importlib.import_module("deepfake_detect.health")
    for ok in (True, False):
        check = health.Check(name="weights", ok=ok, found="as told", advice="" if ok else "do this")
        monkeypatch.setattr(health, "doctor", lambda check=check: health.DoctorReport(checks=(check,)))
        result = run("doctor")
        assert result.exit_code == (0 if ok else 1)
        assert "as told" in result.stdout
        assert ("do this" in result.stdout) != ok
        assert json.loads(run("doctor", "--json").stdout)["ok"] is ok


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finder_module.FaceFinder, "find", interrupt)
    result = run("faces", "shots")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_broken_pipe_is_quiet(pictures: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = f"import sys; sys.path.append({str(ROOT)!r}); from deepfake_detect.cli.main import main; main()"
    command = [sys.executable, "-c", code, "faces", "shots", "--jsonl"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_a_bar_stands_on_a_terminal_only(bundle: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predict(bundle, "shots", "--json").stderr == ""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: self.name == "<stderr>")
    assert "0/3" in predict(bundle, "shots", "--json").stderr
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    assert "0/3" not in predict(bundle, "shots", "--json").stderr


def test_explanations_in_words_tables_and_pictures(bundle: str, pictures: Path) -> None:
    text = run("explain", "shots/one.jpg", "--model", bundle).stdout.splitlines()
    assert "evidence" in text[0] and text[0].endswith("shots/one.jpg")
    assert text[1].strip().startswith("heat for ") and "hair and background" in text[1]
    assert len(text) > 2 and all(line.strip().startswith("- ") for line in text[2:])  # random weights: not evidence
    result = run("explain", "shots", "--model", bundle, "--json", "--faithfulness", "off", "--save", "kept")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert rows["shots/deep/none.webp"]["label"] == "no-face"
    assert sum(rows["shots/one.jpg"]["regions"].values()) == pytest.approx(1)
    assert len(rows["shots/deep/two.PNG"]["faces"]) == 2
    assert len(list(Path("kept").glob("*.png"))) == len(list(Path("kept").glob("*.json"))) == 3
    header, line = run(
        "explain", "shots/one.jpg", "--model", bundle, "--csv", "--method", "hirescam"
    ).stdout.splitlines()
    assert header.startswith("name,label,score,target,method,layer,is_evidence")
    assert ",hirescam," in line


def test_explanations_of_what_cannot_be_read_or_asked(bundle: str, pictures: Path) -> None:
    result = run("explain", "shots/notes.txt", "shots/one.jpg", "--model", bundle, "--jsonl", "--faithfulness", "off")
    assert result.exit_code == 1
    assert next(json.loads(line)["label"] for line in result.stdout.splitlines()) == "error"
    assert "shots/notes.txt" in result.stderr
    for wrong in (("--method", "gradcam"), ("--layer", "nowhere")):
        result = run("explain", "shots/one.jpg", "--model", bundle, *wrong)
        assert result.exit_code == 2 and "did you mean" in result.stderr
