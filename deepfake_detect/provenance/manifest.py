"""Read the content of C2PA manifests, without verifying it: claim generator, assertions, actions.

The layout is that of the C2PA specification (https://spec.c2pa.org): a manifest store holds manifests, of which the
last is the active one; a manifest holds a claim, a signature and a store of assertions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.cbor import CborError, ItemBudget, decode_cbor
from deepfake_detect.provenance.findings import Findings, MetadataFinding, PointsTo, Strength, cut, found_in
from deepfake_detect.provenance.jumbf import JumbfBox, JumbfError, read_jumbf
from deepfake_detect.provenance.xmp import SOURCE_TYPES

MAX_ASSERTION_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action of a manifest, such as ``c2pa.created``.

    Attributes:
        name: Name of the action.
        software: Program that did it; empty where it is missing.
        source_type: Last part of the IPTC Digital Source Type; empty where there is none.
    """

    name: str
    software: str
    source_type: str


@dataclass(slots=True, kw_only=True)
class Manifest:
    """Content of one manifest.

    Attributes:
        label: Its identifier.
        claim_generator: Program that wrote the claim.
        title: Title of the picture in the claim.
        assertions: Labels of the assertions.
        actions: In their order.
        ingredients: Titles of the files it was made from.
    """

    label: str
    claim_generator: str = ""
    title: str = ""
    assertions: list[str] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    ingredients: list[str] = field(default_factory=list)


class ManifestError(ValueError):
    """A manifest store cannot be read."""


def read_manifests(data: bytes) -> list[Manifest]:
    """Read the manifests of a store; the active one is the last.

    Args:
        data: JUMBF boxes.

    Raises:
        ManifestError: It is no manifest store, or breaks a limit.
    """
    try:
        stores = [box for box in read_jumbf(data) if box.label == "c2pa"]
        if not stores:
            raise ManifestError("no C2PA manifest store in the boxes")
        budget = ItemBudget()
        return [_read_manifest(box, budget) for box in stores[0].children]
    except (CborError, JumbfError) as error:
        raise ManifestError(str(error)) from None


def _read_manifest(box: JumbfBox, budget: ItemBudget) -> Manifest:
    claim_box, store = box.child("c2pa.claim"), box.child("c2pa.assertions")
    claim = _dictionary(claim_box, budget)
    manifest = Manifest(label=box.label, claim_generator=_generator(claim), title=_text(claim.get("dc:title")))
    for assertion in store.children if store else ():
        manifest.assertions.append(assertion.label)
        if assertion.label.startswith("c2pa.actions"):
            manifest.actions += _actions(_dictionary(assertion, budget))
        elif assertion.label.startswith("c2pa.ingredient"):
            content = _dictionary(assertion, budget)
            manifest.ingredients.append(_text(content.get("dc:title")) or _text(content.get("title")) or "untitled")
    return manifest


def _dictionary(box: JumbfBox | None, budget: ItemBudget) -> dict[str, Any]:
    """Decode the content of a box; empty where it is no dictionary."""
    data = box.data(b"cbor") if box is not None else b""
    if box is not None and not data:
        return _json(box.data(b"json"))
    if len(data) > MAX_ASSERTION_BYTES:
        raise ManifestError(f"an assertion of {len(data):,} bytes, more than {MAX_ASSERTION_BYTES:,}")
    value = decode_cbor(data, budget=budget) if data else {}
    return value if isinstance(value, dict) else {}


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data) if len(data) <= MAX_ASSERTION_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _generator(claim: dict[str, Any]) -> str:
    infos = claim.get("claim_generator_info")
    first = infos[0] if isinstance(infos, list) and infos else infos
    return _name(first) or _text(claim.get("claim_generator"))


def _name(value: Any) -> str:
    """Return a name with its version, from a text or a dictionary."""
    if not isinstance(value, dict):
        return _text(value)
    return " ".join(part for part in (_text(value.get("name")), _text(value.get("version"))) if part)


def _actions(content: dict[str, Any]) -> Iterable[Action]:
    listed = content.get("actions")
    for action in listed if isinstance(listed, list) else ():
        if isinstance(action, dict):
            source = _text(action.get("digitalSourceType"))
            yield Action(
                name=_text(action.get("action")),
                software=_name(action.get("softwareAgent")),
                source_type=source.rstrip("/").rpartition("/")[2],
            )


def _text(value: Any) -> str:
    return cut(value) if isinstance(value, str) else ""


def describe_manifests(manifests: Sequence[Manifest], block: Block, *, checked: bool | None) -> Findings:
    """Describe the origin of a picture by the manifests of its file.

    Args:
        manifests: The active one is the last; the others belong to files that the picture was made from.
        block: Where they stand.
        checked: Whether signature and content were found to be right; None where nobody checked, or no verdict came.
    """
    active = manifests[-1] if manifests else Manifest(label="")
    state = {None: "present, not verified", True: "verified", False: "present, found to be changed"}[checked]
    actions = cut(", ".join(dict.fromkeys(_words(action) for action in active.actions)), 300) or "no actions"
    what = f"C2PA manifest ({state}) by {active.claim_generator or 'an unnamed program'}: {actions}"
    if active.ingredients:
        what += f"; made from {cut(', '.join(active.ingredients), 80)}"
    assertions = f"assertions: {', '.join(active.assertions)}"
    yield found_in(block, "c2pa", what, not_proof=_NOT_PROOF, value=assertions)
    is_wrapper = not active.actions and len(active.ingredients) == 1  # as ChatGPT writes around GPT-4o's manifest
    for manifest in manifests:
        whole = manifest is active or is_wrapper
        for action in dict.fromkeys(manifest.actions):
            if action.source_type:
                yield _describe_source(action, block, checked=checked, whole=whole)


_NOT_PROOF = "that the statement is true: a signature shows who says it, and that the file was not changed since"


def _words(action: Action) -> str:
    return f"{action.name} by {action.software}" if action.software else action.name


def _describe_source(action: Action, block: Block, *, checked: bool | None, whole: bool) -> MetadataFinding:
    """Describe the source type that an action states, of the whole picture or of a file that it was made from."""
    unknown: tuple[str, Strength, PointsTo | None] = ("a code that IPTC does not list", "neutral", None)
    meaning, strength, points_to = SOURCE_TYPES.get(action.source_type, unknown)
    by = f" by {action.software}" if action.software else ""
    scope = "" if whole else " of a file that the picture was made from"
    return found_in(
        block,
        "c2pa-source-type",
        f"C2PA action {action.name}{by} says{scope}: {meaning} ({action.source_type})",
        strength=_weighed(strength, points_to, checked=checked, whole=whole),
        points_to=points_to,
        not_proof="that it is true: it is what the signer says" if checked else "that it is true: it is not verified",
        value=action.source_type,
    )


def _weighed(strength: Strength, points_to: PointsTo | None, *, checked: bool | None, whole: bool) -> Strength:
    """Weaken statements of a changed file or of a part only; strengthen that of a verified photograph."""
    if checked is False and points_to is not None:
        return "weak"
    if not whole and strength == "strong":
        return "moderate"
    return "moderate" if checked and whole and points_to == "captured" else strength
