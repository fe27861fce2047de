"""Make the report of a picture: the verdict, its reasons, its stability, what the file says, and the page of it all."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deepfake_detect._options import check_flag
from deepfake_detect.drawing.result import Result, short_name
from deepfake_detect.errors import BackendUnavailable, InvalidOption, LayerNotFound
from deepfake_detect.evaluation.stability import Stability, measure_stability
from deepfake_detect.explain.explainer import explain_image
from deepfake_detect.explain.explanation import Explanation
from deepfake_detect.explain.faithfulness import Level
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.case_file import encode_case, write_case
from deepfake_detect.predict.content import classify_content
from deepfake_detect.predict.evidence import record_evidence
from deepfake_detect.predict.intake import hold_image
from deepfake_detect.predict.look import FaceChoice, check_faces
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.reporting.page import compose_page
from deepfake_detect.reporting.pictures import ReportPictures, draw_pictures
from deepfake_detect.reporting.words import headline, label_of
from deepfake_detect.system.atomic import named_write_errors, whole_file

logger = logging.getLogger("deepfake_detect")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CaseReport(Result):
    """The report of a picture, for people: a page that can be read without this program, and a case to check it by.

    Attributes:
        case: Plain values of everything that was computed, as `Prediction.to_case`; `deepfake_detect.verify` reads it.
        prediction: The verdict.
        explanation: Where the score comes from; None where that was not asked for, or cannot be computed.
        unexplained: Why there is no explanation; empty where there is one.
        stability: The verdict on copies of the picture; None where that was not asked for.
        pictures: As they stand on the page.

    Example:
        >>> from deepfake_detect import Detector
        >>> detector = Detector.from_pretrained("xception-fakefaces")
        >>> report = detector.report("examples/portrait_fake.jpg", explain=False, stability=False)
        >>> report.headline
        'Called fake'
        >>> report.save("portrait_fake.html")  # and portrait_fake.json, the case
    """

    case: Mapping[str, Any] = field(repr=False)
    prediction: Prediction
    explanation: Explanation | None = None
    unexplained: str = ""
    stability: Stability | None = None
    pictures: ReportPictures = field(repr=False)

    @property
    def name(self) -> str:
        """Return the path or URL of the picture, or a word such as ``"<array>"``."""
        return self.prediction.name

    @property
    def label(self) -> str:
        """Return the verdict on the picture as given; ``"uncertain"``, too, where it does not hold for every copy."""
        return label_of(self.case)

    @property
    def score(self) -> float | None:
        """Return the probability of fake, 0..1; None where no face was found."""
        return self.prediction.score

    @property
    def headline(self) -> str:
        """Return the verdict in a few words, as it stands at the top of the page."""
        return headline(self.case)

    def to_dict(self) -> dict[str, Any]:
        """Return the case: plain JSON values."""
        return dict(self.case)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row for a table, as `Prediction.to_rows`."""
        return self.prediction.to_rows()

    def to_html(
        self,
        *,
        case_file: str | None = None,
        case_sha256: str | None = None,
        index_file: str | None = None,
        mark: str = "",
    ) -> str:
        """Return the page: one HTML document with nothing to fetch and no script.

        Args:
            case_file: Name of a case file beside the page, to be linked; None where there is none.
            case_sha256: Of that file.
            index_file: Name of an index beside the page, to be linked.
            mark: For programs: from what the page was made.
        """
        explanation = self.explanation
        checks = explanation.faithfulness if explanation is not None else None
        values = (
            None if explanation is None else {**explanation.to_dict(), "findings": checks.findings if checks else ()}
        )
        return compose_page(
            self.case,
            pictures=self.pictures,
            explanation=values,
            unexplained=self.unexplained,
            case_file=case_file,
            case_sha256=case_sha256,
            index_file=index_file,
            mark=mark,
        )

    def save(self, path: str | os.PathLike[str], *, index_file: str | None = None, mark: str = "") -> None:
        """Write the page and, beside it, the case: ``photo.html`` and ``photo.json``; or the case alone.

        Each file is written whole or not at all.

        Args:
            path: Ends in .html, or in .json for the case alone.
            index_file: As for `to_html`.
            mark: As for `to_html`.

        Raises:
            InvalidOption: Any other ending, or a file that cannot be written.
        """
        target = Path(path).expanduser()
        if target.suffix.lower() not in (".html", ".json"):
            raise InvalidOption(f"{target}: ends in {target.suffix!r}, expected .html, or .json for the case alone")
        content = encode_case(self.case)
        case_path = target.with_suffix(".json")
        if target.suffix.lower() == ".html":
            digest = hashlib.sha256(content).hexdigest()
            page = self.to_html(case_file=case_path.name, case_sha256=digest, index_file=index_file, mark=mark)
            with named_write_errors(target), whole_file(target) as partial:
                partial.write_text(page, encoding="utf-8", errors="backslashreplace")
        write_case(self.case, case_path)

    def __repr__(self) -> str:
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        return f"CaseReport({self.headline!r}, {score}, {self.prediction.model}, {short_name(self.name)})"


def report_image(
    predictor: Predictor,
    image: ImageInput,
    *,
    faces: FaceChoice = "auto",
    threshold: float | None = None,
    explain: bool = True,
    stability: bool = True,
    method: str | None = None,
    faithfulness: Level | Literal["off"] | None = "quick",
) -> CaseReport:
    """Make the report of a picture: verdict, reasons, stability, metadata.

    The picture is read once; everything is computed from the same bytes.

    Args:
        predictor: A `Predictor` or a `Detector`.
        image: Anything that `Predictor.predict` takes.
        faces: See `FaceChoice`.
        threshold: See `Predictor.predict`.
        explain: Compute the heat map, and check it.
        stability: Score copies of the picture, too.
        method: As for `explain_image`.
        faithfulness: As for `explain_image`.

    Returns:
        The report.

    Raises:
        ImageUnreadable: Not a picture.
        ImageTooLarge: More pixels than the limit, or a file of more than 256 MB.
        InvalidOption: An option that does not exist or is out of range.
    """
    check_faces(faces, threshold=threshold)
    check_flag("explain", explain)
    check_flag("stability", stability)
    held = hold_image(image)
    explanation, unexplained = None, ""
    if explain:
        try:
            explanation = explain_image(
                predictor, held, method=method, faces=faces, faithfulness=faithfulness, threshold=threshold
            )
        except (LayerNotFound, BackendUnavailable) as error:
            unexplained = f"No heat map can be computed for this detector: {error}"
            logger.warning("%s: %s", name_image(held), unexplained)
    prediction = explanation.prediction if explanation else predictor.predict(held, faces=faces, threshold=threshold)
    if not prediction.faces:
        prediction = replace(prediction, content=classify_content(held))
    copies = measure_stability(predictor, held, faces=faces, threshold=threshold) if stability else None
    case = record_evidence(
        held,
        prediction.to_dict(),
        card=predictor.card,
        faces=faces,
        threshold=threshold,
        stability=None if copies is None else copies.to_dict(),
    )
    return CaseReport(
        case=case,
        prediction=prediction,
        explanation=explanation,
        unexplained=unexplained,
        stability=copies,
        pictures=draw_pictures(open_image(held).pixels, prediction.faces, explanation=explanation),
    )
