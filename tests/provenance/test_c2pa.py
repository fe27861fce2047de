"""Test C2PA: manifests signed here are found, read as c2pa-python reads them, and judged by it."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from deepfake_detect import InvalidOption, MetadataFindings, MissingExtra, inspect_metadata
from deepfake_detect.provenance import inspector
from deepfake_detect.provenance.c2pa_validation import validate_manifest
from deepfake_detect.provenance.manifest import ManifestError, read_manifests
from tests.provenance import made_files as made

c2pa = pytest.importorskip("c2pa")
pytest.importorskip("cryptography")
from tests.provenance.authority import authority, sign  # noqa: E402 - needs both

FORMATS = {
    "JPEG": "APP11 JUMBF",
    "PNG": "PNG caBX",
    "WEBP": "WebP C2PA",
    "TIFF": "TIFF tag 52545 C2PA",
    "AVIF": "uuid box C2PA",
}


@pytest.fixture(scope="module")
def anchors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "root.pem"
    path.write_bytes(authority()[0])
    return path


def signed(format_name: str = "JPEG", side: int = 64) -> bytes:
    data = made.encode(made.scene(side), format_name)
    return sign(data, f"image/{format_name.lower()}", [made.created()])


def of_code(findings: MetadataFindings, code: str) -> list[str]:
    return [finding.what for finding in findings.findings if finding.code == code]


def with_changed_pixel(data: bytes, format_name: str) -> bytes:
    """Change the last bits of the picture, not of the manifest, in the bytes of the file."""
    fixed = {"WEBP": 60, "TIFF": 100, "PNG": data.find(b"IDAT") + 12}
    place = fixed.get(format_name, len(data) - 12)
    return data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_manifest_is_found_and_read_without_the_library(format_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "is_installed", lambda: False)
    findings = inspect_metadata(signed(format_name))
    assert findings.c2pa == "present, not verified"
    (manifest,) = [finding for finding in findings.findings if finding.code == "c2pa"]
    assert "present, not verified" in manifest.what and "Test Camera 1.0: c2pa.created by GPT-4o" in manifest.what
    assert manifest.segment == FORMATS[format_name]
    (source,) = [finding for finding in findings.findings if finding.code == "c2pa-source-type"]
    assert (source.strength, source.points_to) == ("strong", "generated")
    assert "not verified" in source.not_proof


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_signed_file_is_valid_and_a_changed_pixel_makes_it_invalid(format_name: str, anchors: Path) -> None:
    data = signed(format_name)
    assert inspect_metadata(data).c2pa == "valid, signer not trusted"
    assert inspect_metadata(data, trust_anchors=anchors).c2pa == "trusted"
    changed = inspect_metadata(with_changed_pixel(data, format_name), trust_anchors=anchors)
    assert changed.c2pa == "invalid"
    finding = changed.findings[0]
    assert (finding.code, finding.strength, finding.points_to) == ("c2pa-validation", "strong", "edited")
    assert ".mismatch" in finding.value and "not as it was signed" in finding.what
    assert all(f.strength == "weak" for f in changed.findings if f.code == "c2pa-source-type")


def test_the_signer_is_named() -> None:
    (what,) = of_code(inspect_metadata(signed()), "c2pa-validation")
    assert "signed by Test Studio, Test Signer, without a certified time" in what
    assert "in no list of trusted signers" in what


@pytest.mark.parametrize("side", [64, 700])
def test_actions_are_those_that_the_library_reads(side: int) -> None:
    """Of 700 pixels, the thumbnail makes the manifest longer than one segment of a JPEG."""
    data = signed(side=side)
    with c2pa.Reader("image/jpeg", io.BytesIO(data)) as reader:
        report = json.loads(reader.json())
    theirs = report["manifests"][report["active_manifest"]]
    (block,) = inspector.read_jpeg(data).blocks.of_kind("c2pa")
    (manifest,) = read_manifests(block.payload)
    assert manifest.label == report["active_manifest"]
    assert manifest.title == theirs["title"]
    (action,) = theirs["assertions"][0]["data"]["actions"]
    ours = manifest.actions[0]
    assert (ours.name, ours.software) == (action["action"], action["softwareAgent"]["name"])
    assert action["digitalSourceType"].endswith(f"/{ours.source_type}")
    assert data.count(b"\xff\xeb") >= (2 if side == 700 else 1)


def test_ingredients_are_named_and_what_they_say_counts_less() -> None:
    """A collage of a generated picture and a photograph is no generated picture."""
    part = signed()
    whole = sign(
        made.encode(made.scene(seed=1)),
        "image/jpeg",
        [made.created("composite", by="Collage")],
        ingredients={"part.jpg": part},
    )
    findings = inspect_metadata(whole)
    (validation,) = of_code(findings, "c2pa-validation")
    assert "made from part.jpg (by Test Camera)" in validation
    sources = {f.value: f for f in findings.findings if f.code == "c2pa-source-type"}
    assert sources["composite"].points_to == "edited"
    assert sources["trainedAlgorithmicMedia"].strength == "moderate"
    assert "of a file that the picture was made from" in sources["trainedAlgorithmicMedia"].what


def test_a_manifest_that_only_wraps_another_says_what_the_other_says() -> None:
    wrapped = made.superbox(
        "urn:2",
        made.superbox(
            "c2pa.assertions",
            made.superbox("c2pa.ingredient.v3", made.box(b"cbor", made.write_cbor({"dc:title": "image.png"}))),
        ),
    )
    store = made.manifest_store([made.created()])
    inner = store[8 + int.from_bytes(store[8:12], "big") :]
    findings = inspect_metadata(made.with_chunk(b"caBX", made.superbox("c2pa", inner, wrapped)))
    (source,) = [finding for finding in findings.findings if finding.code == "c2pa-source-type"]
    assert (source.strength, source.points_to) == ("strong", "generated")


def test_a_photograph_that_is_trusted_is_moderate(anchors: Path) -> None:
    data = sign(made.encode(), "image/jpeg", [made.created("digitalCapture", by="Camera")])
    findings = inspect_metadata(data, trust_anchors=anchors)
    (source,) = findings.pointing_to("captured")
    assert source.strength == "moderate"


def test_a_manifest_that_was_copied_into_another_file_is_invalid() -> None:
    source = signed("PNG")
    start = source.index(b"caBX") - 4
    manifest = source[start : start + 12 + int.from_bytes(source[start : start + 4], "big")]
    other = made.encode(made.scene(seed=9), "PNG")
    assert inspect_metadata(other[:33] + manifest + other[33:]).c2pa == "invalid"


def test_what_the_library_cannot_read_is_said() -> None:
    findings = inspect_metadata(made.with_chunk(b"caBX", made.manifest_store([made.created()])))
    assert findings.c2pa == "present, not verified"
    assert "c2pa-python cannot validate" in of_code(findings, "c2pa-validation")[0]


def test_a_missing_library_or_file_of_certificates_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=re.escape("pass a file of PEM certificates")):
        inspect_metadata(signed(), trust_anchors=tmp_path / "none.pem")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'deepfake-detect[c2pa]'")):
        validate_manifest(signed(), format_name="JPEG")


@pytest.mark.parametrize(
    "store",
    [
        b"",
        b"nonsense",
        made.superbox("other"),
        made.box(b"jumb", b""),
        made.superbox("c2pa", *(made.superbox(str(number)) for number in range(2100))),
        made.superbox("c2pa", made.superbox("m", made.superbox("c2pa.claim", made.box(b"cbor", b"\x81" * 100)))),
        made.superbox(
            "c2pa", made.superbox("m", made.superbox("c2pa.claim", made.box(b"cbor", b"\x9f" + bytes(60_000))))
        ),
    ],
)
def test_damaged_manifests_are_refused(store: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifests(store)
    if store:
        findings = inspect_metadata(made.with_chunk(b"caBX", store))
        assert findings.c2pa == "present, not verified"
        assert "cannot be read" in of_code(findings, "c2pa")[0]


def test_boxes_that_are_too_deep_are_refused() -> None:
    box = made.superbox("c2pa")
    for _ in range(12):
        box = made.superbox("c2pa", box)
    with pytest.raises(ManifestError, match="levels"):
        read_manifests(box)
