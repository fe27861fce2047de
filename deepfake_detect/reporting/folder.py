"""Write the reports of many pictures into a folder, with an index; a run that was cut off is continued."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deepfake_detect._version import __version__
from deepfake_detect.drawing.html import GENERATOR
from deepfake_detect.errors import DatasetError, DeepfakeDetectError, InvalidOption
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.case_file import CaseIdentity, case_paths, holds_case, read_case
from deepfake_detect.predict.evidence import fingerprint_card, fingerprint_input
from deepfake_detect.predict.intake import hold_image
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.reporting.case_report import report_image
from deepfake_detect.reporting.page import IndexEntry, compose_index
from deepfake_detect.reporting.pictures import draw_thumb
from deepfake_detect.reporting.words import headline, label_of
from deepfake_detect.system.atomic import named_write_errors, whole_file

INDEX: Final = "index.html"
"""Name of the index."""

_LAYOUT = 1  # raised when a page of the same picture would look different
_HEAD_BYTES = 4096  # of a page, which hold its mark


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A report in a folder.

    Attributes:
        name: Path or URL of the picture.
        label: Verdict, ``"uncertain"`` where it does not hold for every copy.
        headline: The verdict in words.
        score: 0..1; None without a face.
        page: The HTML page.
        case_file: The case beside it.
        is_new: Written now; else it was there already, made from the same file with the same settings.
    """

    name: str
    label: str
    headline: str
    score: float | None
    page: Path
    case_file: Path
    is_new: bool


class ReportFolder:
    """A folder of reports: a page and a case for each picture, and an index.

    A page that was made from the same file by the same weights, settings and version is kept as it is, so that the same
    call continues a run that was cut off.

    Args:
        folder: Made where it is missing.
        predictor: A `Predictor` or a `Detector`.
        several: There will be an index.
        options: As for `report_image`.

    Raises:
        InvalidOption: The folder cannot be written to, or holds an index that this program did not write.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, predictor: Predictor, several: bool = True, **options: Any
    ) -> None:
        self.folder = Path(folder).expanduser()
        self._predictor, self._options, self._several = predictor, options, several
        self._entries: list[IndexEntry] = []
        self._check_folder()

    def add(self, image: ImageInput, *, name: str | None = None) -> WrittenReport:
        """Write the report of a picture, unless it is there already.

        Args:
            image: Anything that `Predictor.predict` takes.
            name: Of the picture, in place of its own.

        Raises:
            DeepfakeDetectError: As for `report_image`; the index then names the reason.
            InvalidOption: The folder cannot be written to any more.
        """
        try:
            return self._add(image, name if name is not None else name_image(image))
        except InvalidOption:
            raise
        except DeepfakeDetectError as error:
            self.add_failure(name if name is not None else name_image(image), error)
            raise

    def add_failure(self, name: str, error: Exception) -> None:
        """Name a picture without a report on the index."""
        reason = str(error).removeprefix(f"{name}: ")
        self._entries.append(IndexEntry(name=name, label="error", headline=f"No report: {reason}"))

    def finish(self) -> Path | None:
        """Write the index of all pictures that were added; None for a single one."""
        if not self._several:
            return None
        target = self.folder / INDEX
        self._write(target, compose_index(self._entries))
        return target

    def _add(self, image: ImageInput, name: str) -> WrittenReport:
        held = hold_image(image)
        if hasattr(held, "name") and hasattr(held, "read"):
            held.name = name
        digest = fingerprint_input(held)["sha256"]
        mark = self._mark(name, digest)
        page = self._page(self._identity(name, digest), mark)
        case = self._finished(page, mark)
        is_new = case is None
        if case is None:
            report = report_image(self._predictor, held, **self._options)
            case, thumb = report.case, report.pictures.thumb
            with named_write_errors(self.folder):
                report.save(page, index_file=INDEX if self._several else None, mark=mark)
        else:
            thumb = draw_thumb(open_image(held).pixels, case["verdict"]["faces"])
        label, words, score = label_of(case), headline(case), case["verdict"]["score"]
        self._entries.append(
            IndexEntry(name=name, label=label, headline=words, score=score, page=page.name, thumb=thumb)
        )
        return WrittenReport(
            name=name,
            label=label,
            headline=words,
            score=score,
            page=page,
            case_file=page.with_suffix(".json"),
            is_new=is_new,
        )

    def _identity(self, name: str, digest: str) -> CaseIdentity:
        """Return the identity that the case of a picture will have."""
        card, options = self._predictor.card, self._options
        case = {
            "input": {"name": name, "sha256": digest},
            "weights": {"id": card.id, "sha256": card.sha256},
            "settings": {
                "faces": options.get("faces", "auto"),
                "threshold": options.get("threshold"),
                "preprocessing": fingerprint_card(card),
            },
        }
        return CaseIdentity.of(case)

    def _page(self, identity: CaseIdentity, mark: str) -> Path:
        """Return where the page of a picture is, or will be: where there is no page or case of another."""
        return next(path for path in _pages(self.folder, identity) if _is_free(path, identity, mark))

    def _mark(self, name: str, digest: str) -> str:
        """Return a fingerprint of everything that a page depends on."""
        facts = [
            _LAYOUT,
            __version__,
            name,
            digest,
            self._predictor.card.to_json(),
            self._several,
            sorted(self._options.items()),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _finished(self, page: Path, mark: str) -> Any:
        """Return the case of a page that is there already and was made from the same; None where there is none."""
        try:
            return read_case(page.with_suffix(".json")) if mark in _head(page) else None
        except DatasetError:
            return None

    def _check_folder(self) -> None:
        with named_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
            index = self.folder / INDEX
            if self._several and index.exists() and GENERATOR not in _head(index):
                raise InvalidOption(f"{index} was not written by this program; choose another folder for the reports")

    def _write(self, target: Path, text: str) -> None:
        with named_write_errors(self.folder), whole_file(target) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _pages(folder: Path, identity: CaseIdentity) -> Iterator[Path]:
    return (path.with_suffix(".html") for path in case_paths(folder, identity))


def _is_free(page: Path, identity: CaseIdentity, mark: str) -> bool:
    """Return whether a page may be written: nothing is there, or what is there is of the same picture and settings."""
    case = page.with_suffix(".json")
    if not page.exists():
        return not case.exists()
    head = _head(page)
    return mark in head or (GENERATOR in head and holds_case(case, identity))


def _head(page: Path) -> str:
    try:
        with page.open("rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
