"""Write results as lines for a terminal, as JSON or as CSV, and save them to a folder."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deepfake_detect.cli.console import plural
from deepfake_detect.drawing.html import visible
from deepfake_detect.drawing.result import file_stem
from deepfake_detect.system.atomic import named_write_errors

if TYPE_CHECKING:
    from deepfake_detect.predict.prediction import Prediction

Row = dict[str, Any]

_COLOURS = {"fake": 31, "real": 32, "uncertain": 33, "error": 35}  # ANSI codes, which click removes where not wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How results of one kind are written.

    Attributes:
        text: Turns a result into lines for a terminal.
        cells: Turns a result into rows of a table, column to value; a missing column is empty.
        columns: Header of the table.
    """

    text: Callable[[Row], Iterator[str]]
    cells: Callable[[Row], Iterator[Row]]
    columns: tuple[str, ...]


class Result(Protocol):
    """What can be saved: a `Prediction`, `Stability`, `Explanation` or `VideoPrediction`."""

    @property
    def name(self) -> str:
        """Path or URL of the picture or video."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a picture."""


def render_results(rows: Iterable[Row], *, style: str, form: Form) -> Iterator[str]:
    """Write each result as soon as it is there; a JSON array when all are.

    Args:
        rows: Results as plain JSON values.
        style: ``"text"``, ``"json"``, ``"jsonl"`` or ``"csv"``.
        form: How results of this kind are written.

    Yields:
        Text of one or more lines, without the final line break.
    """
    if style == "json":
        yield json.dumps(list(rows), indent=2, ensure_ascii=False)
    elif style == "jsonl":
        yield from (json.dumps(row, ensure_ascii=False) for row in rows)
    elif style == "csv":
        yield ",".join(form.columns)
        yield from (_csv_line(form.columns, cells) for row in rows for cells in form.cells(row))
    else:
        yield from (line for row in rows for line in form.text(visible_row(row)))


def visible_row(value: Any) -> Any:
    """Spell out what cannot be seen in the texts of a result: names of files may hold line breaks and colours."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {key: visible_row(entry) for key, entry in value.items()}
    return [visible_row(entry) for entry in value] if isinstance(value, list | tuple) else value


def save_result(result: Result, folder: Path) -> Path:
    """Save a result as ``NAME.json`` and the drawn picture as ``NAME.png``.

    NAME is the file name of the picture without its ending, with a number appended where the result of
    another picture has that name already.

    Args:
        result: Result of a picture that could be scored.
        folder: Created where it is missing.

    Returns:
        Path of the JSON file.
    """
    with named_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = os.path.abspath(result.name) if os.path.exists(result.name) else result.name
    stem = file_stem(result.name)
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    name = next(name for name in names if _is_free_or_same(folder, name, path))
    content = {"path": path, **result.to_dict()}
    target = folder / f"{name}.json"
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with named_write_errors(target):
        target.write_text(text, encoding="utf-8", errors="backslashreplace")
    result.save(folder / f"{name}.png")
    return target


def save_case(prediction: Prediction, folder: Path) -> Path:
    """Write a verdict as a case that ``deepfake-detect verify`` checks again, as ``NAME-SHA.json``.

    Args:
        prediction: Of a picture that could be scored.
        folder: Created where it is missing.

    Returns:
        Path of the file: the name of the picture, and the first eight digits of its sha256; with a number where another
        case, such as that of other weights, or a report has that name.

    Raises:
        InvalidOption: It cannot be written.
        DeepfakeDetectError: As for `Prediction.to_case`.
    """
    from deepfake_detect.predict.case_file import CaseIdentity, case_paths, holds_case, write_case

    case = prediction.to_case()
    identity = CaseIdentity.of(case)
    with named_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = (path for path in case_paths(folder, identity) if not path.with_suffix(".html").exists())
    target = next(path for path in paths if not path.exists() or holds_case(path, identity))
    write_case(case, target)
    return target


def _prediction_text(row: Row) -> Iterator[str]:
    notes = [plural(len(row["faces"]), "face")] if len(row["faces"]) > 1 else []
    if content := row.get("content"):
        notes.append(f"{content['label']} {content['scores'][content['label']]:.3f}")
    yield verdict_line(row, row["name"] + (f"  ({', '.join(notes)})" if notes else ""))
    if len(row["faces"]) > 1:
        for face in row["faces"]:
            yield verdict_line(face, f"  {_box(face)}")


def verdict_line(row: Row, words: str) -> str:
    """Write label and score of a result, and some words, as a line for a terminal."""
    score = "     -" if row["score"] is None else f"{row['score']:6.3f}"
    colour = _COLOURS.get(row["label"], 0)
    return f"\x1b[{colour}m{row['label']:<9}\x1b[0m  {score}  {words}"


def _box(face: Row) -> str:
    left, top, right, bottom = (round(value) for value in face["box_xyxy"])
    return f"face {right - left} x {bottom - top} at {left},{top}"


def _prediction_cells(row: Row) -> Iterator[Row]:
    height, width = row["size_hw"] or (None, None)
    yield {
        **row,
        "faces": len(row["faces"]),
        "width": width,
        "height": height,
        "error": row["error"] and row["error"]["message"],
    }


def _faces_text(row: Row) -> Iterator[str]:
    faces = "error" if row["error"] else plural(len(row["faces"]), "face")
    yield f"{faces:<9}  {row['name']}"
    for face in row["faces"]:
        yield f"{'':9}  {_box(face)}, confidence {face['confidence']:.2f}"


def _faces_cells(row: Row) -> Iterator[Row]:
    for number, face in enumerate(row["faces"]):
        box = dict(zip(("left", "top", "right", "bottom"), face["box_xyxy"], strict=True))
        yield {"name": row["name"], "face": number, **box, "confidence": face["confidence"]}
    if row["error"]:
        yield {"name": row["name"], "error": row["error"]["message"]}


def _stability_text(row: Row) -> Iterator[str]:
    if row["error"]:
        yield verdict_line({**row, "score": None}, row["name"])
        return
    low, high = row["interval"] or (None, None)
    spread = "" if low is None else f"  [{low:.3f}, {high:.3f}]"
    flips = f"  flips under {', '.join(row['flips'])}" if row["flips"] else ""
    withdrawn = f"  withdrawn under {', '.join(row['withdrawn'])}" if row["withdrawn"] else ""
    yield verdict_line(row, f"{spread[2:]}{'  ' if spread else ''}{row['name']}{flips}{withdrawn}")


def _stability_cells(row: Row) -> Iterator[Row]:
    low, high = row.get("interval") or (None, None)
    error = row["error"] and row["error"]["message"]
    names = {key: " ".join(row.get(key, ())) for key in ("flips", "withdrawn")}
    yield {**row, "low": low, "high": high, **names, "error": error}


def _video_text(row: Row) -> Iterator[str]:
    if row["label"] == "error":
        yield verdict_line({**row, "score": None}, row["name"])
        return
    yield verdict_line(row, row["name"])
    lost = f", {row['lost_frames']} lost" if row["lost_frames"] else ""
    share = "" if row["share_fake"] is None else f", {row['share_fake']:.0%} of them fake"
    yield f"{'':19}{plural(len(row['frames']), 'frame')}, {row['frames_with_face']} with a face{share}{lost}"
    if row["worst_s"]:
        yield f"{'':19}highest at {', '.join(f'{time_s:.2f} s' for time_s in row['worst_s'])}"


def _video_cells(row: Row) -> Iterator[Row]:
    height, width = row.get("size_hw") or (None, None)
    frames = len(row["frames"]) if "frames" in row else None
    error = row["error"] and row["error"]["message"]
    yield {**row, "frames": frames, "width": width, "height": height, "error": error}


def _explanation_text(row: Row) -> Iterator[str]:
    if row["error"]:
        yield verdict_line({**row, "score": None}, row["name"])
        return
    yield verdict_line(row, f"{'evidence' if row['is_evidence'] else 'not evidence':<12}  {row['name']}")
    regions = sorted(row["regions"].items(), key=lambda item: -item[1])
    if regions:
        yield f"{'':19}heat for {row['target']}: {_shares(regions)}"
    if row.get("texture_share") is not None:
        yield f"{'':19}texture look, of which there is no heat: {row['texture_share']:.0%} of the logit"
    yield from (f"{'':19}- {reason}" for reason in row["reasons"])


def _shares(regions: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in regions)


def _explanation_cells(row: Row) -> Iterator[Row]:
    error = row["error"] and row["error"]["message"]
    shares, checks = row.get("regions") or {}, row.get("faithfulness") or {}
    yield {**row, **checks, **shares, "reasons": "; ".join(row.get("reasons", ())), "error": error}


def _content_text(row: Row) -> Iterator[str]:
    ranked = sorted((row["scores"] or {}).items(), key=lambda pair: -pair[1])
    scores = ", ".join(f"{name} {score:.3f}" for name, score in ranked[:3])
    yield f"{row['label']:<10} {row['name']}{f'  ({scores})' if scores else ''}"


def _content_cells(row: Row) -> Iterator[Row]:
    height, width = row["size_hw"] or (None, None)
    scores = row["scores"] or {}
    yield {
        **row,
        "score": scores.get(row["label"]),
        "scores": "; ".join(f"{name} {score:.6f}" for name, score in scores.items()),
        "width": width,
        "height": height,
        "error": row["error"] and row["error"]["message"],
    }


PREDICTION = Form(
    text=_prediction_text,
    cells=_prediction_cells,
    columns=(
        *("name", "label", "score", "logit", "threshold", "faces", "width", "height"),
        *("model", "revision", "seconds", "error"),
    ),
)
"""A prediction: a line, and one for each face where there are several; a row of a table."""

STABILITY = Form(
    text=_stability_text,
    cells=_stability_cells,
    columns=("name", "label", "score", "low", "high", "flips", "withdrawn", "threshold", "model", "revision", "error"),
)
"""A score with its interval: a line; a row of a table."""

VIDEO = Form(
    text=_video_text,
    cells=_video_cells,
    columns=(
        *("name", "label", "score", "logit", "threshold", "frames", "frames_with_face", "share_fake", "lost_frames"),
        *("duration_s", "width", "height", "model", "revision", "seconds", "error"),
    ),
)
"""A video: up to three lines, with the times at which the score is highest; a row of a table."""

EXPLANATION = Form(
    text=_explanation_text,
    cells=_explanation_cells,
    columns=(
        *("name", "label", "score", "target", "method", "layer", "is_evidence", "reasons"),
        *("right eye", "left eye", "nose", "mouth", "skin", "hair and background"),
        *("fall", "deletion", "insertion", "random_weights", "shift", "error"),
    ),
)
"""An explanation: the score, the share of the heat on each part of the face, and why it is no evidence."""

CONTENT = Form(
    text=_content_text,
    cells=_content_cells,
    columns=("name", "label", "score", "scores", "width", "height", "model", "error"),
)
"""What a picture shows: a line; a row of a table."""

FACES = Form(
    text=_faces_text,
    cells=_faces_cells,
    columns=("name", "face", "left", "top", "right", "bottom", "confidence", "error"),
)
"""Faces without a score: a line each; a row of a table each."""


def _csv_line(columns: Iterable[str], cells: Row) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([cells.get(column) for column in columns])
    return text.getvalue()


def _is_free_or_same(folder: Path, name: str, path: str) -> bool:
    """Tell whether a name is free, or holds an earlier result of the same picture."""
    earlier = folder / f"{name}.json"
    if not earlier.exists():
        return not (folder / f"{name}.png").exists()
    try:
        return bool(path != "-" and json.loads(earlier.read_text(encoding="utf-8")).get("path") == path)
    except (ValueError, AttributeError):
        return False


def training_summary(trained: Any, out: Path) -> str:
    """Describe a finished training in a line: its epochs, which of them was kept, and where the bundle is."""
    best = max(trained.history, key=lambda epoch: epoch.merit, default=None)
    score = "" if best is None or math.isnan(best.valid_auc) else f", validation AUC {best.valid_auc:.3f}"
    kept = f"{score} in epoch {best.epoch}, which was kept" if best and score else ""
    return f"{trained.card.id}: {plural(len(trained.history), 'epoch')}{kept}; saved in {out}"
