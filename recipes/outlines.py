"""Write down the operations of every architecture that can be told so.

    python -m recipes.outlines

A test fails where a network was changed and this was not run again.
"""

from __future__ import annotations

from deepfake_detect import create_model, list_models
from deepfake_detect.engines.outline import OUTLINES, file_name, to_json
from deepfake_detect.engines.trace import record

MORE = ("timm:mobilenetv2_100",)
"""Beside those that are listed: networks of packaged bundles."""


def main() -> None:
    """Write a file for each, and name those without."""
    for name in (*list_models(), *MORE):
        outline = record(create_model(name, seed=0).eval())
        if outline is None:
            print(f"{name}: has operations that an outline cannot tell")
            continue
        (OUTLINES / file_name(name)).write_text(to_json(outline), "utf-8")
        print(f"{name}: {len(outline)} operations")


if __name__ == "__main__":
    main()
