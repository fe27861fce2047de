"""Record verdicts in one environment and check them in another: what differs, and by how much.

    python benchmarks/verify_elsewhere.py record PICTURE... --out CASES [--bundle NAME ...] [--backend torch]
    other/bin/python benchmarks/verify_elsewhere.py check CASES [--backend openvino]
    python benchmarks/verify_elsewhere.py damage CASES

``check`` prints one line of a table for each engine that recorded; ``damage`` flips one bit of the picture, the weights
and the case, and lists what the command line says. Run both from the root of the repository: it is on the path of
either Python then.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import deepfake_detect as dd
from deepfake_detect.predict.evidence import environment
from deepfake_detect.weights.bundle import find_bundle

SHOWN = ("torch", "numpy", "pillow", "opencv-python-headless", "simplejpeg", "openvino")


def record(pictures: Sequence[Path], out: Path, *, bundles: Sequence[str], backend: str) -> None:
    """Write a case of every picture by every set of weights."""
    out.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        detector = dd.Detector.from_pretrained(bundle, device="cpu", backend=backend)
        for number, prediction in enumerate(detector.predict_many(pictures)):
            case = prediction.to_case()
            case["input"]["path"] = str(pictures[number].resolve())
            (out / f"{bundle}-{backend}-{number:03}.json").write_text(json.dumps(case))
    print(f"{len(pictures)} pictures, {versions()}")


def check(cases: Path, *, backend: str) -> None:
    """Print a line of the table for each set of weights and each engine that recorded."""
    groups = defaultdict(list)
    for file in sorted(cases.glob("*.json")):
        case = json.loads(file.read_text("utf-8"))
        path = case["input"].pop("path")
        groups[case["weights"]["id"], case["verdict"]["backend"]].append((case, path))
    print(f"checked with {versions()}\n")
    print("| weights | recorded by | checked by | pictures | stands | score moved by, median / most | logit, most "
          "| box edge, most | versions that differ |")  # fmt: skip
    print("|" + "---|" * 9)
    for (weights, engine), entries in groups.items():
        print(_line(weights, engine, entries, backend), flush=True)


def _line(weights: str, engine: str, entries: list[tuple[dict[str, Any], str]], backend: str) -> str:
    done = [(case, dd.verify(case, path, device="cpu", backend=backend)) for case, path in entries]
    for case, outcome in done:
        for wrong in outcome.checks:
            if not wrong.ok:
                print(f"  {case['input']['name']}: {wrong}", file=sys.stderr)
    pairs = [(case["verdict"], outcome.prediction) for case, outcome in done if outcome.prediction is not None]
    moved = sorted(abs(was["score"] - now.score) for was, now in pairs if was["score"] is not None and now.score)
    logit = max(abs(was["logit"] - now.logit) for was, now in pairs if was["logit"] is not None and now.logit)
    edge = max(
        abs(a - b)
        for was, now in pairs
        for face, other in zip(was["faces"], now.faces, strict=False)
        for a, b in zip(face["box_xyxy"], other.box_xyxy, strict=True)
    )
    stands, differ = sum(outcome.ok for _, outcome in done), done[0][1].versions
    by = pairs[0][1].backend
    return (
        f"| `{weights}` | {engine} | {by} | {len(done)} | {stands} | {moved[len(moved) // 2]:.1e} / {moved[-1]:.1e} "
        f"| {logit:.1e} | {edge:.2f} px | {', '.join(name for name in SHOWN if name in differ) or 'none'} |"
    )


def damage(cases: Path) -> None:
    """Flip one bit of the picture, of the weights and of the case, and show what ``verify`` says."""
    file = min(cases.glob("*.json"))
    case = json.loads(file.read_text("utf-8"))
    picture = Path(case["input"].pop("path"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        weights = place / "weights"
        shutil.copytree(find_bundle(case["weights"]["id"]).folder, weights)
        shutil.copy(picture, place / "photo.jpg")
        (place / "case.json").write_text(json.dumps(case))
        print("| one bit flipped in | exit status | answer |\n|---|---|---|")
        for what in ("nothing", "photo.jpg", "case.json", "weights/model.safetensors", "weights/card.json"):
            print(f"| {what} | {_verified(place, what)} |", flush=True)


def _verified(place: Path, what: str) -> str:
    file = place / what
    content = file.read_bytes() if file.is_file() else b""
    if content:
        middle = content.index(b'"temperature": ') + 18 if what.endswith("card.json") else len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    command = [sys.executable, "-m", "deepfake_detect", "verify", "case.json", "photo.jpg", "--model", "weights"]
    root = str(Path(__file__).resolve().parent.parent)
    ran = subprocess.run(command, cwd=place, env={"PYTHONPATH": root}, capture_output=True, text=True, check=False)
    if content:
        file.write_bytes(content)
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if not line.startswith(("same", "versions"))]
    return f"{ran.returncode} | {'; '.join(re.sub(r': recorded.*| [(].*', '', line) for line in lines)[:200]}"


def versions() -> str:
    """Name the versions of what computes a verdict."""
    known = environment()["versions"]
    return ", ".join(f"{name} {known[name]}" for name in SHOWN if name in known)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    recording = actions.add_parser("record")
    recording.add_argument("pictures", nargs="+", type=Path)
    recording.add_argument("--out", type=Path, required=True)
    recording.add_argument("--bundle", nargs="+", default=["xception-fakefaces", "mobile-fakefaces"])
    recording.add_argument("--backend", default="auto")
    checking = actions.add_parser("check")
    checking.add_argument("cases", type=Path)
    checking.add_argument("--backend", default="auto")
    actions.add_parser("damage").add_argument("cases", type=Path)
    options = parser.parse_args()
    if options.action == "record":
        record(options.pictures, options.out, bundles=options.bundle, backend=options.backend)
    elif options.action == "check":
        check(options.cases, backend=options.backend)
    else:
        damage(options.cases)


if __name__ == "__main__":
    main()
