"""Compose the sections of a report as HTML: plain values and pictures in, a string out.

Every function may be used alone, by a server or a notebook; `deepfake_detect.reporting.page` puts them together. All
texts are escaped here, whatever they hold.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from PIL import Image

from deepfake_detect.drawing.html import bullets, escape, figure, paragraph, table
from deepfake_detect.drawing.result import short_name
from deepfake_detect.reporting.pictures import MOST_CROPS
from deepfake_detect.reporting.words import (
    DELIVERIES,
    band_of,
    explain_verdict,
    face_words,
    label_words,
    list_limits,
)

QUALITY: Final = 82
"""Of the JPEG pictures on a page."""

MOST_LETTERS: Final = 80
"""Longer file names are cut in the middle where they are shown."""

_SIGNS = {"fake": "▲", "real": "●", "uncertain": "◆", "no-face": "○", "error": "×"}
_POINTS_TO = {"generated": "made by a generator", "edited": "edited", "captured": "taken with a camera"}


def verdict_section(case: Mapping[str, Any], overview: Image.Image | None) -> str:
    """Compose the verdict in words, the score on its scale, and the picture with its faces framed.

    Args:
        case: `Prediction.to_case`.
        overview: The picture, RGB; None leaves it out.
    """
    words = "".join(paragraph(text) for text in explain_verdict(case))
    ruler = "" if case["verdict"]["score"] is None else score_ruler(case)
    shown = "" if overview is None else _overview(case, overview)
    return f'<div class="lead-in">{ruler}{shown}<div class="words">{words}</div></div>'


def score_ruler(case: Mapping[str, Any]) -> str:
    """Draw the score on a line from 0 to 1, with the uncertain interval, and the interval under delivery below."""
    score, threshold, band = case["verdict"]["score"], case["verdict"]["threshold"], band_of(case)
    words = [f"The score is {score:.3f} on a scale from 0, real, to 1, fake."]
    if band is None:
        words.append(f"The threshold is {threshold:.3g}.")
        zones = f'<line x1="{_x(threshold)}" x2="{_x(threshold)}" y1="32" y2="56" class="edge"/>'
        zones += f'<text x="{_inside(_x(threshold))}" y="74" class="soft">fake from {threshold:.3g}</text>'
    else:
        words.append(f"It is uncertain between {band[0]:.3g} and {band[1]:.3g}.")
        width = _x(band[1]) - _x(band[0])
        zones = f'<rect x="{_x(band[0])}" y="34" width="{width}" height="20" class="band"/>'
        zones += f'<text x="{_inside(_x(band[0]) + width / 2, 40)}" y="74" class="soft">uncertain</text>'
    spread = ""
    if case["stability"] is not None and case["stability"]["interval"] is not None:
        low, high = case["stability"]["interval"]
        words.append(f"For copies of the picture it lies between {low:.3f} and {high:.3f}.")
        spread = f'<line x1="{_x(low) - 2:.1f}" x2="{_x(high) + 2:.1f}" y1="44" y2="44" class="spread"/>'
    at = _x(score)
    return (
        f'<svg class="ruler" viewBox="0 0 360 84" role="img" aria-label="{escape(" ".join(words))}">{zones}'
        f'<line x1="{_x(0)}" x2="{_x(1)}" y1="44" y2="44" class="line"/>{spread}'
        f'<path d="M{at - 7:.1f} 24 h14 l-7 14 z"/><text x="{_inside(at)}" y="16" class="score">{score:.3f}</text>'
        f'<text x="{_x(0)}" y="74" class="first">0 real</text><text x="{_x(1)}" y="74" class="last">1 fake</text></svg>'
    )


def faces_section(faces: Sequence[Mapping[str, Any]], crops: Sequence[Image.Image]) -> str:
    """Compose a card for each face: its picture, verdict, size and place.

    Args:
        faces: `Face.to_dict` of each, largest first.
        crops: Pictures of the first of them.
    """
    if not faces:
        return paragraph("None.")
    cards = []
    for number, face in enumerate(faces[:MOST_CROPS], start=1):
        first, *rest = face_words(face)
        shown = figure(crops[number - 1], words="", format_name="JPEG", quality=QUALITY) if number <= len(crops) else ""
        name = f"Face {number}" if face["landmarks_xy"] else "Whole picture"
        lines = "".join(f"<br>{escape(line)}" for line in rest)
        cards.append(
            f"<li>{shown}<div><strong>{name}: {_sign(face['label'])} {escape(first)}</strong>{lines}</div></li>"
        )
    more = len(faces) - len(cards)
    note = paragraph(f"And {more} more faces, with their scores in the case file.") if more > 0 else ""
    return f'<ul class="faces">{"".join(cards)}</ul>{note}'


def reasons_section(explanation: Mapping[str, Any], heat: tuple[Image.Image, Image.Image] | None) -> str:
    """Compose the heat map with the word whether it is evidence, and why or why not.

    Args:
        explanation: `Explanation.to_dict`, with ``"findings"``: the checks that hold, in words.
        heat: The face as the model saw it, and under its heat; None where nothing was scored.
    """
    if heat is None:
        return paragraph("There is no score, and so nothing to explain.")
    target = explanation["target"]
    if explanation["is_evidence"]:
        lead = "Every check below holds: the score comes from there. That does not mean that this place was forged."
        verdict = f'<p class="note"><strong>Evidence.</strong> {escape(lead)}</p>{bullets(explanation["findings"])}'
    else:
        lead = "Do not show this map as the reason of the verdict. What speaks against it:"
        verdict = f'<p class="warning"><strong>Not evidence.</strong> {lead}</p>{bullets(explanation["reasons"])}'
    how = explanation["method"] + (f" at {explanation['layer']}" if explanation["layer"] else "")
    names = ("As the detector saw it", f"Heat: what speaks for {target}, by {how}; bright is much, dark is little")
    alternatives = ("The face that decides.", f"The same face under its heat map. {_hottest(explanation)}")
    shown = "".join(
        f"<figure>{figure(image, words=words, format_name='JPEG', quality=QUALITY)}"
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for image, name, words in zip(heat, names, alternatives, strict=True)
    )
    return f'{verdict}<div class="pair">{shown}</div>{_parts(explanation)}'


def delivery_section(stability: Mapping[str, Any]) -> str:
    """Compose what becomes of the verdict when the picture is saved again, made smaller, cut or photographed.

    Args:
        stability: `Stability.to_dict`.
    """
    rows = []
    for name, score in stability["scores"].items():
        remarks = [word for key, word in (("flips", "changes"), ("withdrawn", "withdrawn")) if name in stability[key]]
        remarks += ["face not found, cut out at its place"] if name in stability["lost"] else []
        label = stability["labels"][name]
        shown = "–" if score is None else f"{score:.3f}"
        verdict = f"{_SIGNS.get(label, '')}\N{NO-BREAK SPACE}{label_words(label)}"
        rows.append([DELIVERIES.get(name, name), verdict, shown, ", ".join(remarks)])
    columns = 4 if any(row[-1] for row in rows) else 3
    lead = (
        "Messengers and pages save a picture again, make it smaller or cut it. Each row is such a copy, made here and "
        "scored anew. A verdict that changes from copy to copy is not one to act on."
    )
    header = ["copy", "verdict", "score", "remark"][:columns]
    return paragraph(lead) + table(header, [row[:columns] for row in rows], label="Verdict on each copy")


def origin_section(metadata: Mapping[str, Any] | None) -> str:
    """Compose what the file says of its own origin: what, where, how strong, and what it does not prove.

    Args:
        metadata: `MetadataFindings.to_dict`; None for pixels without a file, and formats whose metadata are not read.
    """
    if metadata is None:
        return paragraph(
            "Nothing was read: the picture was handed over as pixels without a file, or in a format without metadata "
            "that this program reads."
        )
    lead = (
        "What the file says of itself, and how it is built. Anyone can write, copy or remove such data, and the score "
        "does not depend on it. That a file says nothing is the normal case."
    )
    items = "".join(_finding(finding) for finding in metadata["findings"])
    return f'{paragraph(lead)}<ul class="findings">{items}</ul>'


def limits_section(case: Mapping[str, Any]) -> str:
    """Compose what the verdict does not prove, and what the detector is bad at by its own card."""
    card = case["weights"]["card"]
    known = f"<h3>What this detector is bad at</h3>{bullets(card['limits'])}" if card["limits"] else ""
    return bullets(list_limits(case)) + known


def again_section(case: Mapping[str, Any], *, case_file: str | None, case_sha256: str | None) -> str:
    """Compose how somebody else checks the verdict again, with the sums that say that it is the same file.

    Args:
        case: `Prediction.to_case`.
        case_file: Name of the file beside the page; None where there is none.
        case_sha256: Of that file.
    """
    source, weights = case["input"], case["weights"]
    version = case["environment"]["versions"]["deepfake-detect"]
    photo = shlex.quote(short_name(source["name"])) if source["name"].isprintable() else "PHOTO"
    photo = "PHOTO" if photo.startswith(("'<", "-")) else photo
    lines = [f"pip install deepfake-detect=={version}"]
    if case_file is not None:
        lines.append(f"deepfake-detect verify {shlex.quote(case_file)} {photo}")
    steps = "".join(f"<pre><code>{escape(line)}</code></pre>" for line in lines)
    lead = (
        "With the picture, the case file and the weights, anyone gets the same verdict again, or is told what differs. "
        "The case is not signed: whoever hands it on can have changed it, which the check then shows."
    )
    kind = "sha256 of the picture file" if source["kind"] == "file" else "sha256 of the pixels"
    terms = [(kind, source["sha256"]), ("size", f"{source['bytes']:,} bytes")]
    terms += [("weights", weights["id"]), ("sha256 of the weights", weights["sha256"])]
    link = ""
    if case_file is not None:
        link = f'<p>The case file lies beside this page: <a href="{quote(case_file)}">{escape(case_file)}</a></p>'
        terms += [("sha256 of the case file", case_sha256 or "")]
    return paragraph(lead) + link + steps + definitions(terms)


def details_section(case: Mapping[str, Any]) -> str:
    """Compose the settings and versions that the verdict was computed with."""
    verdict, settings, environment = case["verdict"], case["settings"], case["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    height, width = verdict["size_hw"]
    return definitions(
        [
            ("file", case["input"]["name"]),
            ("size", f"{width} × {height} pixels"),
            ("scored", case["created"]),
            ("detector", verdict["model"] + (f", commit {verdict['revision']}" if verdict["revision"] else "")),
            ("faces", settings["faces"]),
            ("threshold", _threshold(case)),
            (
                "computed with",
                f"{verdict['backend']}, {verdict['dtype']}, {environment['system']} {environment['machine']}",
            ),
            ("versions", versions),
        ]
    )


def definitions(terms: Iterable[tuple[str, str]]) -> str:
    """Compose a list of names with their values."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd></div>" for name, value in terms)
    return f"<dl>{pairs}</dl>"


def shown_name(name: str) -> str:
    """Return the last part of a path or URL, cut in the middle where it is long.

    Example:
        >>> shown_name("album/" + 60 * "a" + 60 * "b" + ".jpg")
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.jpg'
    """
    short = Path(short_name(name)).name or name
    half = MOST_LETTERS // 2
    return short if len(short) <= MOST_LETTERS else f"{short[: half - 1]}…{short[-half:]}"


def _overview(case: Mapping[str, Any], overview: Image.Image) -> str:
    height, width = case["verdict"]["size_hw"]
    faces = len(case["verdict"]["faces"])
    words = f"The picture, {faces} face{'' if faces == 1 else 's'} framed." if faces else "The picture."
    smaller = overview.width * overview.height < width * height
    size = f"{width} × {height} pixels" + (f", shown at {overview.width} × {overview.height}" if smaller else "")
    shown = figure(overview, words=words, format_name="JPEG", quality=QUALITY)
    return f"<figure>{shown}<figcaption>{escape(size)}</figcaption></figure>"


def _threshold(case: Mapping[str, Any]) -> str:
    threshold, band = case["verdict"]["threshold"], band_of(case)
    if band is not None:
        return f"{threshold:.4g}, and uncertain between {band[0]:.4g} and {band[1]:.4g}"
    return f"{threshold:.4g}" + (", asked for" if case["settings"]["threshold"] is not None else "")


def _x(score: float) -> float:
    return round(16 + 328 * score, 1)


def _inside(x: float, room: float = 26) -> float:
    return round(min(max(x, room), 360 - room), 1)


def _sign(label: str | None) -> str:
    return f'<span aria-hidden="true">{_SIGNS.get(label or "", "")}</span>'


def _hottest(explanation: Mapping[str, Any]) -> str:
    shares = sorted(explanation["regions"].items(), key=lambda item: -item[1])[:2]
    words = ", ".join(f"{name} {share:.0%}" for name, share in shares if share > 0)
    return f"Most of the heat lies on: {words}." if words else ""


def _parts(explanation: Mapping[str, Any]) -> str:
    shares, drops = explanation["regions"], explanation["drops"]
    if not shares:
        return ""
    ordered = sorted(shares, key=lambda name: -shares[name])
    rows = [
        [name, f"{shares[name]:.0%}", f"{0.0 - round(drops[name], 2):+.2f}" if name in drops else "–"]
        for name in ordered
    ]
    header = ["part of the face", "share of the heat", f"score for {explanation['target']} when it is blurred"]
    return table(header, rows, label="Heat by part of the face")


def _finding(finding: Mapping[str, Any]) -> str:
    place = finding["segment"] if finding["offset"] is None else f"{finding['segment']}, byte {finding['offset']:,}"
    points_to, strength = finding["points_to"], escape(finding["strength"])
    direction = f", points to: {escape(_POINTS_TO.get(points_to, points_to))}" if points_to else ""
    value = f"<br><bdi>{escape(finding['value'])}</bdi>" if finding["value"] not in finding["what"] else ""
    return (
        f'<li class="{strength}"><strong>{strength.capitalize()}{direction}</strong>'
        f"<br><bdi>{escape(finding['what'])}</bdi>{value}"
        f"<br><small>Where: {escape(place)}. Does not prove: {escape(finding['not_proof'])}.</small></li>"
    )
