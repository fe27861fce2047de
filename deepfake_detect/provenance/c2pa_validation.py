"""Validate C2PA manifests with the library c2pa-python (the extra ``[c2pa]``): who signed, when, and is it whole."""

from __future__ import annotations

import importlib.util
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deepfake_detect._options import check_type
from deepfake_detect.errors import InvalidOption, MissingExtra
from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.findings import C2paState, Findings, cut, found_in

MIME_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
}
"""What the library calls the containers."""

_UNTRUSTED = "signingCredential.untrusted"
_NOT_PROOF = {
    "trusted": "that what the signer says is true",
    "valid, signer not trusted": (
        "who signed: the certificate is in no list of trusted signers that was given, and anybody can make one of any "
        "name; nor that what the signer says is true"
    ),
    "invalid": "who changed the file, or why: platforms and programs that know nothing of C2PA change files, too",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Outcome of validating a manifest store.

    Attributes:
        state: See `C2paState`.
        signer: Organisation and name of the certificate that signed the active manifest.
        time: When it was signed, by a timestamp service; empty without a timestamp.
        failures: Codes of what is wrong, as the C2PA specification names them.
        chain: Titles of the active manifest's ingredients, each with the program that made it.
        is_unchanged: Whether signature and content match, whatever else is wrong.
    """

    state: C2paState
    signer: str
    time: str
    failures: tuple[str, ...]
    chain: tuple[str, ...]
    is_unchanged: bool

    @property
    def is_right(self) -> bool | None:
        """Whether all is right; None where the file is unchanged, but something else is wrong."""
        if self.state != "invalid":
            return True
        return None if self.is_unchanged else False


def is_installed() -> bool:
    """Return whether c2pa-python is installed, without importing it."""
    return importlib.util.find_spec("c2pa") is not None


def validate_manifest(data: bytes, *, format_name: str, trust_anchors: str | None = None) -> Validation | str:
    """Check the signature and the content of a file with a manifest; nothing is fetched from the network.

    Args:
        data: The whole file.
        format_name: Its container, a key of `MIME_TYPES`.
        trust_anchors: PEM certificates of authorities that are trusted, from `read_anchors`; None trusts nobody.

    Returns:
        What was found; a text where the library cannot read the file.

    Raises:
        MissingExtra: c2pa-python is not installed.
    """
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True}}
    if trust_anchors is not None:
        settings["trust"] = {"trust_anchors": trust_anchors}
    try:
        import c2pa
    except ImportError as error:
        raise MissingExtra("validating C2PA needs c2pa-python; run: pip install 'deepfake-detect[c2pa]'") from error
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(MIME_TYPES[format_name], io.BytesIO(data), context=context) as reader,
        ):
            return _read_report(json.loads(reader.json()))
    except c2pa.C2paError as error:
        return cut(str(error))


def read_anchors(path: str | os.PathLike[str]) -> str:
    """Read the certificates of authorities that are trusted.

    Args:
        path: File of PEM certificates.

    Raises:
        InvalidOption: The file cannot be read, or holds no certificate.
    """
    check_type("trust_anchors", path, (str, os.PathLike), expected="the path of a PEM file")
    file = Path(os.path.expanduser(path))
    try:
        if file.exists() and not file.is_file():  # to open a pipe would wait for its writer
            raise OSError("no regular file")
        text = file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise InvalidOption(
            f"trust_anchors {path}: cannot be read ({error}); pass a file of PEM certificates"
        ) from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise InvalidOption(f"trust_anchors {path}: holds no certificate; pass a file of PEM certificates")
    return text


def _read_report(report: dict[str, Any]) -> Validation:
    manifests = report.get("manifests", {})
    active = manifests.get(report.get("active_manifest", ""), {})
    failures = tuple(dict.fromkeys(status["code"] for status in report.get("validation_status") or ()))
    signature = active.get("signature_info", {})
    names = dict.fromkeys(filter(None, (signature.get("issuer"), signature.get("common_name"))))
    return Validation(
        state=_state(report.get("validation_state"), failures),
        signer=cut(", ".join(names)),
        time=signature.get("time") or "",
        failures=failures,
        is_unchanged=_is_unchanged(report, failures),
        chain=tuple(_ingredient(entry, manifests) for entry in active.get("ingredients", ())),
    )


def _state(state: str | None, failures: tuple[str, ...]) -> C2paState:
    if state == "Trusted":
        return "trusted"
    return "valid, signer not trusted" if state == "Valid" and set(failures) <= {_UNTRUSTED} else "invalid"


def _is_unchanged(report: dict[str, Any], failures: tuple[str, ...]) -> bool:
    successes = report.get("validation_results", {}).get("activeManifest", {}).get("success", ())
    codes = {success["code"] for success in successes}
    matches = "claimSignature.validated" in codes and any(code.endswith("Hash.match") for code in codes)
    return matches and not any(code.endswith(".mismatch") for code in failures)


def _ingredient(entry: dict[str, Any], manifests: dict[str, Any]) -> str:
    """Name an ingredient, and the program of its own manifest where it has one."""
    infos = manifests.get(entry.get("active_manifest", ""), {}).get("claim_generator_info") or [{}]
    by = f" (by {infos[0].get('name')})" if infos[0].get("name") else ""
    return cut(f"{entry.get('title') or 'untitled'}{by}", 80)


def describe_validation(validation: Validation, block: Block) -> Findings:
    """Describe the outcome of a validation."""
    signer = f"signed by {validation.signer or 'nobody named'}, {validation.time or 'without a certified time'}"
    chain = f"; made from {', '.join(validation.chain)}" if validation.chain else ""
    if validation.state == "invalid":
        changed = not validation.is_unchanged
        reason = "the file is not as it was signed" if changed else "although the file is as it was signed"
        yield found_in(
            block,
            "c2pa-validation",
            f"C2PA manifest is invalid, {reason} ({', '.join(validation.failures)}); {signer}",
            strength="strong" if changed else "neutral",
            points_to="edited" if changed else None,
            not_proof=_NOT_PROOF["invalid"],
            value=", ".join(validation.failures),
        )
        return
    words = "" if validation.state == "trusted" else ", which is in no list of trusted signers that was given"
    what = f"C2PA manifest is valid: the file is as it was signed; {signer}{words}{chain}"
    yield found_in(block, "c2pa-validation", what, not_proof=_NOT_PROOF[validation.state], value=validation.state)
