"""Write the reports of many pictures into a folder, with an index; a run that was cut off is continued."""

from __future__ import annotations

import contextlib
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
from deepfake_detect.drawing.result import file_stem
from deepfake_detect.errors import DatasetError, DeepfakeDetectError, InvalidOption
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.evidence import fingerprint_input
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.verification import read_case
from deepfake_detect.reporting.case_report import hold_image, report_image
from deepfake_detect.reporting.page import IndexEntry, compose_index
from deepfake_detect.reporting.pictures import draw_thumb
from deepfake_detect.reporting.words import headline, label_of
from deepfake_detect.system.atomic import whole_file

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
        page = self.folder / f"{file_stem(name)}-{digest[:8]}.html"
        mark = self._mark(digest)
        case = self._finished(page, mark)
        is_new = case is None
        if case is None:
            report = report_image(self._predictor, held, **self._options)
            case, thumb = report.case, report.pictures.thumb
            with _writing(self.folder):
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

    def _mark(self, digest: str) -> str:
        """Return a fingerprint of everything that a page depends on."""
        facts = [
            _LAYOUT,
            __version__,
            digest,
            self._predictor.card.to_json(),
            self._several,
            sorted(self._options.items()),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _finished(self, page: Path, mark: str) -> Any:
        """Return the case of a page that is there already and was made from the same; None where there is none."""
        try:
            with page.open("rb") as file:
                is_same = mark.encode() in file.read(_HEAD_BYTES)
            return read_case(page.with_suffix(".json")) if is_same else None
        except (OSError, DatasetError):
            return None

    def _check_folder(self) -> None:
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
            index = self.folder / INDEX
            if self._several and index.exists() and GENERATOR.encode() not in index.read_bytes()[:_HEAD_BYTES]:
                raise InvalidOption(f"{index} was not written by this program; choose another folder for the reports")

    def _write(self, target: Path, text: str) -> None:
        with _writing(self.folder), whole_file(target) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the system says into an error of ours: no picture of this run can be written then.

    Raises:
        InvalidOption: The folder cannot be written to.
    """
    try:
        yield
    except OSError as error:
        raise InvalidOption(
            f"{folder}: reports cannot be written there ({error.strerror or error}); choose another folder"
        ) from error
