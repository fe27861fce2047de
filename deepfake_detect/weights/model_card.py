"""Write the page of a bundle on the Hugging Face Hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deepfake_detect.weights.card import LIBRARY, Card

_DATASET = re.compile(r"(?:hf://|huggingface\.co/)datasets/(\w[\w.-]*/\w[\w-]*(?:\.[\w-]+)*)", re.ASCII)
# Licences that the Hub knows; of any other it shows the name.
_LICENCE = re.compile(
    r"unknown|apache-2\.0|mit|isc|unlicense|bsd-[23]-clause|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.0|mpl-2\.0|"
    r"(gpl|lgpl|agpl)-3\.0|cdla-permissive-2\.0|openrail|creativeml-openrail-m"
)


def write_model_card(card: Card) -> str:
    """Write the ``README.md`` by which the Hub lists and describes a bundle.

    Args:
        card: Card of the bundle.

    Returns:
        Markdown with YAML front matter.
    """
    prep = card.preprocessing
    uncertain = "" if card.uncertain is None else " Between {:g} and {:g} it is `uncertain`.".format(*card.uncertain)
    return f"""---
{_front_matter(card)}
---

# {card.name}, version {card.version}

Scores how likely it is that a face was forged. Architecture `{card.architecture}`, for the Python package
[{LIBRARY}](https://pypi.org/project/{LIBRARY}/).

## Use

```python
from deepfake_detect import Detector
detector = Detector.from_pretrained("{card.hub_repo or card.id}")
print(detector.predict("photo.jpg"))
```

## Input

The face, found by `{prep.finder}`, is cut out as a square {prep.margin:g} times its box, resized to {prep.size_px} px
({prep.interpolation}), scaled to [0, 1], and normalised with mean {list(prep.mean)} and standard deviation
{list(prep.std)} (RGB). The package does all of this.

## Threshold

A face is `fake` from a score of {card.threshold:g} on.{uncertain} The score is
sigmoid(logit / {card.temperature:g} + {card.bias:g}).

## Calibration

{_calibration(card.calibration) or "Not recorded."}

## Figures

{_figures(card.metrics) or "None are recorded."}

## Limits

{_bullets(card.limits) or "None are recorded. Measure on your own pictures before you rely on a verdict."}

## Training data

{_bullets(card.training_data) or "Not recorded."}

## Recipe

{f"```{chr(10)}{card.recipe}{chr(10)}```" if card.recipe else "Not recorded."}

## Licence

{card.licence or "unknown"}
"""


_CALIBRATION = {
    "method": "method",
    "n": "pictures",
    "n_groups": "groups",
    "max_false_alarm": "false alarms, promised at most",
    "false_alarm_bound_95": "false alarms, at most with 95 % confidence",
    "uncertain_rate": "real photographs that are uncertain",
    "ece_before": "calibration error before",
    "ece_after": "calibration error after, on pictures left out of the fit",
}


def _calibration(calibration: Mapping[str, Any]) -> str:
    """Write the guarantee of a calibration, and the figures that it rests on."""
    values = {name: calibration[key] for key, name in _CALIBRATION.items() if calibration.get(key) is not None}
    lines = tuple(
        f"{name}: {value:g}" if isinstance(value, float) else f"{name}: {value}" for name, value in values.items()
    )
    return "\n\n".join(part for part in (_line(str(calibration.get("note", ""))), _bullets(lines)) if part)


def _front_matter(card: Card) -> str:
    """Write YAML lines; every value is written as JSON, which is valid YAML."""
    licence = _slug(card.licence) or "unknown"
    known = {"license": licence} if _LICENCE.fullmatch(licence) else {"license": "other", "license_name": licence}
    datasets = [name for line in card.training_data for name in _DATASET.findall(line)]
    results = [_result(name, figures) for name, figures in _rows(card.metrics) if _numbers(figures)]
    facts: dict[str, Any] = {
        **known,
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": ["deepfake-detection", "safetensors", card.architecture],
        **({"datasets": datasets} if datasets else {}),
        **({"model-index": [{"name": card.name, "results": results}]} if results else {}),
    }
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _rows(metrics: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the figures of each data set or generator on a card, however deeply they are nested."""
    figures = {key: value for key, value in metrics.items() if not isinstance(value, Mapping)}
    if figures:
        yield " / ".join(path) or "all", figures
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _rows(value, (*path, str(key)))


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    numbers = {key: value for key, value in figures.items() if type(value) in (int, float) and key != "n"}  # no bool
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def _result(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": _slug(name) or "unknown", "name": name},
        "metrics": [{"type": key, "value": value} for key, value in _numbers(figures).items()],
    }


def _figures(metrics: Mapping[str, Any]) -> str:
    rows = list(_rows(metrics))
    columns = list(dict.fromkeys(key for _, figures in rows for key in figures))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[_cell(name), *(_cell(figures.get(column, "")) for column in columns)] for name, figures in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) if rows else ""


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(map(_cell, value))
    return f"{value:.3f}" if isinstance(value, float) else _line(value).replace("|", "\\|")


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {_line(line)}" for line in lines)


def _line(value: Any) -> str:
    return " ".join(str(value).split())
