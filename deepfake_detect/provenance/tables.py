"""Give the names and patterns that traces are recognised by as plain values, for readers in other languages."""

from __future__ import annotations

from typing import Any

from deepfake_detect.provenance import generators, manifest, software, xmp


def trace_tables() -> dict[str, Any]:
    """Return what the script of a web page needs to find the strongest traces that `inspect_metadata` finds.

    Patterns are written so that Python and JavaScript read them alike.

    Returns:
        Plain JSON values: ``rules`` for texts, in the order in which they are tried; ``generators``, what stands in a
        field to the name of the generator; ``editors``, in the order of their ranks; ``source_types`` of IPTC; and for
        each kind of finding what it does not prove.

    Example:
        >>> trace_tables()["generators"]["Midjourney"]
        'Midjourney'
    """
    return {
        "rules": [
            {
                "generator": rule.generator,
                "what": rule.what,
                "key": rule.key,
                "texts": list(rule.texts),
                "strength": rule.strength,
            }
            for rule in generators.RULES
        ],
        "generators": dict(software.GENERATORS),
        "editors": [
            {"names": list(names), "strength": strength, "kind": kind} for names, strength, kind in software._RANKS
        ],
        "source_types": {code: list(meaning) for code, meaning in xmp.SOURCE_TYPES.items()},
        "rule_not_proof": generators._NOT_PROOF,
        "generator_not_proof": software._GENERATOR_NOT_PROOF,
        "editor_not_proof": software._EDITOR_NOT_PROOF,
        "label_not_proof": xmp._LABEL_NOT_PROOF,
        "c2pa_not_proof": manifest._NOT_PROOF,
    }
