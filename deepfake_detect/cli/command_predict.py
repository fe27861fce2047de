"""Define ``deepfake-detect predict``: score the faces of pictures."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepfake_detect.cli import options as shared
from deepfake_detect.cli.console import plural

if TYPE_CHECKING:
    from deepfake_detect.cli.batch import Outcome
    from deepfake_detect.errors import DeepfakeDetectError
    from deepfake_detect.predict.prediction import Prediction
    from deepfake_detect.predict.router import ContentRouter


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@shared.model_option
@shared.faces_option
@shared.threshold_option
@click.option("--content", is_flag=True, help="Classify what each picture shows: animal, face, vehicle or other.")
@click.option(
    "--route",
    "routes",
    metavar="CLASS=M",
    multiple=True,
    help="Detector M for pictures of CLASS (animal, vehicle or other), such as vehicle=FOLDER; may be repeated.",
)
@shared.style_options
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Faces per batch of the model.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Threads that open pictures.")
@shared.device_option
@shared.save_option
@click.option(
    "--evidence",
    metavar="DIR",
    type=shared.FOLDER,
    callback=shared.check_folder,
    help="Write a case file for each picture into DIR, which `verify` checks again.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=shared.FILE,
    help="Write results to FILE (.jsonl, .csv or .parquet); the same command continues it.",
)
def command(
    paths: tuple[str, ...],
    model: str,
    device: str,
    save: Path | None,
    out: Path | None,
    evidence: Path | None,
    routes: tuple[str, ...],
    **options: Any,
) -> None:
    """Score the faces of pictures."""
    from deepfake_detect.cli.batch import load_detector, print_outcomes
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.cli.paths import expand_paths, note_on_videos
    from deepfake_detect.cli.render import PREDICTION

    style, names = shared.style_from(options), expand_paths(paths)
    if note := note_on_videos(paths):
        write_line(note, err=True)
    detector = load_detector(model, device=device)
    settings = [detector.card.to_json(), detector.revision, options["faces"], options["threshold"]]
    if routes:
        if options["faces"] != "auto":
            raise click.UsageError("--faces cannot be combined with --route: faces are found for the class face alone")
        detector, options = _router(detector, routes, device), {"threshold": options["threshold"]}
    if out is None:
        outcomes = _outcomes(detector, names, options, evidence)
        print_outcomes(outcomes, total=len(names), style=style, form=PREDICTION, save=save)
    elif style != "text":
        raise click.UsageError(f"--out and --{style} exclude one another; the ending of FILE chooses the format")
    else:
        extras = [*routes, *(["content"] if options.get("content") else []), *(["evidence"] if evidence else [])]
        _score_into(out, detector, names, options, save, evidence, settings=[*settings, *extras])


def _router(detector: Any, routes: tuple[str, ...], device: str) -> ContentRouter:
    """Load the weights of every route."""
    from deepfake_detect.cli.batch import load_detector
    from deepfake_detect.predict.content import content_classes
    from deepfake_detect.predict.router import ContentRouter

    detectors = {"face": detector}
    for route in routes:
        name, _, model = route.partition("=")
        if not model or name not in content_classes():
            known = ", ".join(content_classes())
            raise click.UsageError(f"--route {route}: expected CLASS=M, such as vehicle=FOLDER; classes: {known}")
        detectors[name] = load_detector(model, device=device)
    return ContentRouter(detectors)


def _outcomes(detector: Any, names: list[str], options: dict[str, Any], evidence: Path | None) -> Iterator[Outcome]:
    from deepfake_detect.cli.batch import Outcome, predict_each

    for prediction in predict_each(detector, names, **options):
        result, row = None if prediction.error else prediction, prediction.to_dict()
        error = _save_evidence(result, evidence) if evidence is not None and result is not None else prediction.error
        if error is not None:
            row["error"] = {"type": type(error).__name__, "message": str(error)}
        yield Outcome(name=prediction.name, row=row, error=error, result=result)


def _save_evidence(prediction: Prediction, folder: Path) -> DeepfakeDetectError | None:
    """Write the case of a picture; return why that is not possible, such as a file that changed after it was scored."""
    from deepfake_detect.cli.console import write_above_bar
    from deepfake_detect.cli.render import save_case
    from deepfake_detect.drawing.html import visible
    from deepfake_detect.errors import DeepfakeDetectError, InvalidOption

    if prediction.settings is None:
        write_above_bar(visible(f"{prediction.name}: no case, since no detector scored it"))
        return None
    try:
        save_case(prediction, folder)
    except InvalidOption:  # the folder cannot be written to any more
        raise
    except DeepfakeDetectError as error:
        return error
    return None


def _score_into(
    out: Path,
    detector: Any,
    names: list[str],
    options: dict[str, Any],
    save: Path | None,
    evidence: Path | None,
    *,
    settings: list[Any],
) -> None:
    """Score what FILE lacks, add it there, and print a summary."""
    from deepfake_detect.cli.batch import report_error
    from deepfake_detect.cli.console import with_bar, write_line
    from deepfake_detect.cli.render import PREDICTION, save_result
    from deepfake_detect.cli.resume import ResultFile
    from deepfake_detect.scale.rows import fingerprint, marks_of

    results = ResultFile(out, form=PREDICTION, settings=fingerprint(*settings))
    missing = results.missing(names)
    marks = {name: marks_of(name) for name in missing}
    total = len(set(names))
    with results:
        outcomes = _outcomes(detector, missing, options, evidence)
        for outcome in with_bar(outcomes, total=total, initial=total - len(missing), lines_on_stdout=False):
            if outcome.error is not None:
                report_error(outcome.name, outcome.error)
            elif save and outcome.result is not None:
                save_result(outcome.result, save)
            results.append(outcome.name, outcome.row, marks[outcome.name])
    results.finish(names)
    labels = Counter(str(row["label"]) for row in results.rows_of(names))
    counts = ", ".join(f"{number} {label}" for label, number in labels.most_common())
    write_line(f"{out}: {plural(labels.total(), 'picture')} ({counts}), {len(missing)} of them scored now")
    sys.exit(1 if results.missing([name for name in missing if name != "-"]) else 0)
