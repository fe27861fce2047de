"""Test that every trace is found in a file made with it, at its place, and that files without say nothing strong."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import deepfake_detect as dd
from deepfake_detect import InvalidOption, MetadataFinding, MetadataFindings, inspect_metadata
from deepfake_detect.cli.main import main
from tests.provenance import made_files as made

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"
CAMERA = {0x010F: "Canon", 0x0110: "Canon EOS R5", 0x0132: "2024:05:01 10:00:00"}
EXPOSURE = {0x829A: (1, 200), 0x829D: (28, 10), 0x8827: 100, 0x9003: "2024:05:01 10:00:00", 0xA434: "RF 50mm F1.2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A file with one trace, and the finding that must come of it."""

    data: bytes
    code: str
    strength: str
    points_to: str | None
    words: str
    segment: str
    marker: bytes = field(default=b"")


def jpeg_exif(*parts: Any, **options: Any) -> bytes:
    return made.encode(exif=made.exif_of(*parts), **options)


def user_comment(text: str) -> dict[int, bytes]:
    return {0x9286: b"UNICODE\0" + text.encode("utf-16-be")}


CASES = {
    "a1111-png": Case(
        data=made.png_text("parameters", made.A1111), code="generator", strength="strong", points_to="generated",
        words="Stable Diffusion web UI", segment="PNG tEXt", marker=b"tEXt",
    ),
    "a1111-jpeg": Case(
        data=jpeg_exif({}, user_comment(made.A1111)), code="generator", strength="strong", points_to="generated",
        words="Stable Diffusion web UI", segment="APP1 EXIF", marker=b"Exif",
    ),
    "a1111-webp": Case(
        data=jpeg_exif({}, user_comment(made.A1111), format_name="WEBP"), code="generator", strength="strong",
        points_to="generated", words="Stable Diffusion web UI", segment="WebP EXIF", marker=b"EXIF",
    ),
    "comfyui-prompt": Case(
        data=made.png_text("prompt", made.COMFY_PROMPT), code="generator", strength="strong", points_to="generated",
        words="ComfyUI", segment="PNG tEXt",
    ),
    "comfyui-workflow": Case(
        data=made.png_international("workflow", made.COMFY_WORKFLOW, packed=True), code="generator", strength="strong",
        points_to="generated", words="ComfyUI", segment="PNG iTXt",
    ),
    "comfyui-webp": Case(
        data=jpeg_exif({0x0110: "prompt:" + made.COMFY_PROMPT}, format_name="WEBP"), code="generator",
        strength="strong", points_to="generated", words="ComfyUI", segment="WebP EXIF",
    ),
    "swarmui": Case(
        data=made.png_text("parameters", '{"sui_image_params": {"prompt": "a cat"}}'), code="generator",
        strength="strong", points_to="generated", words="SwarmUI", segment="PNG tEXt",
    ),
    "fooocus": Case(
        data=made.png_text("fooocus_scheme", "fooocus"), code="generator", strength="strong", points_to="generated",
        words="Fooocus", segment="PNG tEXt",
    ),
    "invokeai": Case(
        data=made.png_text("invokeai_metadata", '{"positive_prompt": "a cat"}'), code="generator", strength="strong",
        points_to="generated", words="InvokeAI", segment="PNG tEXt",
    ),
    "invokeai-2": Case(
        data=made.png_text("sd-metadata", "{}"), code="generator", strength="strong", points_to="generated",
        words="InvokeAI", segment="PNG tEXt",
    ),
    "invokeai-1": Case(
        data=made.png_text("Dream", '"a cat" -s 50 -S 42 -W 512'), code="generator", strength="strong",
        points_to="generated", words="InvokeAI", segment="PNG tEXt",
    ),
    "novelai": Case(
        data=made.png_text("Software", "NovelAI"), code="generator", strength="strong", points_to="generated",
        words="NovelAI", segment="PNG tEXt",
    ),
    "novelai-comment": Case(
        data=made.png_text("Comment", '{"prompt": "a cat", "signed_hash": "x"}'), code="generator", strength="strong",
        points_to="generated", words="NovelAI", segment="PNG tEXt",
    ),
    "easy-diffusion": Case(
        data=made.png_text("use_stable_diffusion_model", "sd-v1-4"), code="generator", strength="strong",
        points_to="generated", words="Easy Diffusion", segment="PNG tEXt",
    ),
    "draw-things": Case(
        data=made.png_international("XML:com.adobe.xmp", made.xmp('xmp:CreatorTool="Draw Things"').decode()),
        code="generator", strength="strong", points_to="generated", words="Draw Things", segment="PNG iTXt XMP",
    ),
    "draw-things-comment": Case(
        data=made.jpeg_with_xmp(made.xmp('exif:UserComment=\'{"c":"a cat","scale":7,"seed":1}\'')),
        code="generator", strength="strong", points_to="generated", words="Draw Things", segment="APP1 XMP",
    ),
    "midjourney": Case(
        data=made.png_text("Description", f"a cat --ar 2:1 --v 6 Job ID: {made.UUID}"), code="generator",
        strength="strong", points_to="generated", words="Midjourney", segment="PNG tEXt",
    ),
    "grok": Case(
        data=jpeg_exif({0x010E: f"Signature: {'Ab3+' * 80}", 0x013B: made.UUID}), code="generator", strength="strong",
        points_to="generated", words="Grok", segment="APP1 EXIF",
    ),
    "flux": Case(
        data=jpeg_exif({0x0131: "AI generated;txt2img;flux", 0x010F: "Black Forest Labs", 0x0110: "flux-dev"}),
        code="generator", strength="strong", points_to="generated", words="FLUX", segment="APP1 EXIF",
    ),
    "ideogram": Case(
        data=jpeg_exif({0x010F: "Ideogram AI"}), code="generator", strength="strong", points_to="generated",
        words="Ideogram", segment="APP1 EXIF",
    ),
    "google-xmp": Case(
        data=made.jpeg_with_xmp(made.xmp('photoshop:Credit="Made with Google AI"')), code="generator",
        strength="strong", points_to="generated", words="Google Gemini or Imagen", segment="APP1 XMP",
    ),
    "google-iptc": Case(
        data=made.jpeg_with_resources(made.resource(0x0404, made.iptc_record(110, "Made with Google AI"))),
        code="generator", strength="strong", points_to="generated", words="Google", segment="APP13 Photoshop",
    ),
    "openai": Case(
        data=made.with_chunk(b"caBX", made.manifest_store([made.created(by="GPT-4o")])), code="c2pa-source-type",
        strength="strong", points_to="generated", words="GPT-4o says: made by a trained model", segment="PNG caBX",
        marker=b"caBX",
    ),
    "firefly": Case(
        data=made.jpeg_with_xmp(made.xmp('xmp:CreatorTool="Adobe Firefly"')), code="generator", strength="strong",
        points_to="generated", words="Adobe Firefly", segment="APP1 XMP",
    ),
    "tc260-xmp": Case(
        data=made.jpeg_with_xmp(made.xmp('t:AIGC=\'{"Label":"1","ContentProducer":"x"}\'')), code="generator",
        strength="strong", points_to="generated", words="China", segment="APP1 XMP",
    ),
    "tc260-png": Case(
        data=made.png_text("AIGC", '{"Label":"1","ContentProducer":"doubao"}'), code="generator", strength="strong",
        points_to="generated", words="China", segment="PNG tEXt",
    ),
    "tc260-app": Case(
        data=made.with_segment(made.encode(), 0xE9, b'AIGC{"Label":"1","ContentProducer":"x"}'), code="generator",
        strength="strong", points_to="generated", words="China", segment="APP9",
    ),
    "tc260-exif": Case(
        data=jpeg_exif({}, user_comment('{"AIGC":{"Label":"1"}}')), code="generator", strength="strong",
        points_to="generated", words="China", segment="APP1 EXIF",
    ),
    "hugging-face-job": Case(
        data=made.png_text("hf-job-id", made.UUID), code="generator", strength="moderate", points_to="generated",
        words="Hugging Face", segment="PNG tEXt",
    ),
    "source-type": Case(
        data=made.jpeg_with_xmp(made.xmp(f'ext:DigitalSourceType="{made.SOURCE_TYPE}trainedAlgorithmicMedia"')),
        code="source-type", strength="strong", points_to="generated", words="trained model", segment="APP1 XMP",
    ),
    "source-type-part": Case(
        data=made.encode(
            format_name="WEBP",
            xmp=made.xmp(
                inside=f"<ext:DigitalSourceType>{made.SOURCE_TYPE}compositeWithTrainedAlgorithmicMedia"
                "</ext:DigitalSourceType>"
            ),
        ),
        code="source-type", strength="strong", points_to="edited", words="in part", segment="WebP XMP",
    ),
    "source-type-camera": Case(
        data=made.encode(
            format_name="AVIF", xmp=made.xmp(f'ext:DigitalSourceType="{made.SOURCE_TYPE}digitalCapture"')
        ),
        code="source-type", strength="weak", points_to="captured", words="camera", segment="XMP item",
    ),
    "ai-field": Case(
        data=made.jpeg_with_xmp(made.xmp('ext:AISystemUsed="Any Model"')), code="ai-fields", strength="strong",
        points_to="generated", words="AISystemUsed", segment="APP1 XMP",
    ),
    "photoshop": Case(
        data=jpeg_exif({0x0131: "Adobe Photoshop CS6 (Windows)"}), code="editor", strength="moderate",
        points_to="edited", words="Photoshop", segment="APP1 EXIF",
    ),
    "gimp-tiff": Case(
        data=made.encode(format_name="TIFF", tiffinfo={0x0131: "GIMP 2.10.34"}), code="editor", strength="moderate",
        points_to="edited", words="GIMP", segment="TIFF tags",
    ),
    "lightroom": Case(
        data=made.jpeg_with_xmp(made.xmp('xmp:CreatorTool="Adobe Photoshop Lightroom Classic 13.0"')), code="editor",
        strength="weak", points_to="edited", words="Lightroom", segment="APP1 XMP",
    ),
    "snapseed": Case(
        data=jpeg_exif({0x0131: "Snapseed 2.0"}), code="editor", strength="weak", points_to="edited",
        words="Snapseed", segment="APP1 EXIF",
    ),
    "faceapp": Case(
        data=jpeg_exif({0x0131: "FaceApp 11.2"}), code="editor", strength="moderate", points_to="edited",
        words="change faces", segment="APP1 EXIF",
    ),
    "facetune": Case(
        data=made.jpeg_with_resources(made.resource(0x0404, made.iptc_record(65, "Facetune2"))), code="editor",
        strength="moderate", points_to="edited", words="change faces", segment="APP13 Photoshop",
    ),
    "unknown-software": Case(
        data=jpeg_exif({0x0131: "HDR+ 1.0.4"}), code="software", strength="neutral", points_to=None,
        words="not in the lists", segment="APP1 EXIF",
    ),
    "history": Case(
        data=made.jpeg_with_xmp(
            made.xmp(
                inside="<mm:History><rdf:Seq><rdf:li ev:action='created' ev:softwareAgent='GIMP'/>"
                "<rdf:li ev:action='saved'/></rdf:Seq></mm:History>"
            )
        ),
        code="history", strength="weak", points_to="edited", words="2 steps: created, saved", segment="APP1 XMP",
    ),
    "provenance-link": Case(
        data=made.jpeg_with_xmp(made.xmp('terms:provenance="https://example.com/m.c2pa"')), code="c2pa-link",
        strength="neutral", points_to=None, words="https://example.com/m.c2pa", segment="APP1 XMP",
    ),
    "photoshop-resources": Case(
        data=made.jpeg_with_resources(made.resource(0x03ED, bytes(16))), code="photoshop-segment", strength="weak",
        points_to="edited", words="Photoshop", segment="APP13 Photoshop",
    ),
    "facebook": Case(
        data=made.jpeg_with_resources(made.resource(0x0404, made.iptc_record(40, "FBMD01000a9"))), code="platform",
        strength="neutral", points_to=None, words="Facebook", segment="APP13 Photoshop",
    ),
    "camera": Case(
        data=jpeg_exif(CAMERA, EXPOSURE), code="camera", strength="weak", points_to="captured",
        words="Canon EOS R5 with RF 50mm F1.2", segment="APP1 EXIF", marker=b"Exif",
    ),
    "camera-png": Case(
        data=made.encode(format_name="PNG", exif=made.exif_of(CAMERA, EXPOSURE)), code="camera", strength="weak",
        points_to="captured", words="Canon EOS R5", segment="PNG eXIf", marker=b"eXIf",
    ),
    "camera-avif": Case(
        data=made.encode(format_name="AVIF", exif=made.exif_of(CAMERA, EXPOSURE)), code="camera", strength="weak",
        points_to="captured", words="Canon EOS R5", segment="Exif item",
    ),
    "camera-without-exposure": Case(
        data=jpeg_exif(CAMERA), code="no-exposure", strength="weak", points_to="edited", words="no exposure time",
        segment="APP1 EXIF",
    ),
    "changed-before-taken": Case(
        data=jpeg_exif({**CAMERA, 0x0132: "2020:01:01 00:00:00"}, EXPOSURE), code="dates", strength="weak",
        points_to="edited", words="before it was taken", segment="APP1 EXIF",
    ),
    "changed-later": Case(
        data=jpeg_exif({**CAMERA, 0x0132: "2024:06:01 00:00:00"}, EXPOSURE), code="changed-later", strength="weak",
        points_to="edited", words="2024-06-01", segment="APP1 EXIF",
    ),
    "gps-date": Case(
        data=jpeg_exif(CAMERA, EXPOSURE, {7: (10.0, 0.0, 0.0), 0x1D: "2023:05:01"}), code="dates", strength="weak",
        points_to="edited", words="by GPS", segment="APP1 EXIF",
    ),
    "size": Case(
        data=jpeg_exif(CAMERA, {**EXPOSURE, 0xA002: 6000, 0xA003: 4000}), code="size", strength="weak",
        points_to="edited", words="6000 x 4000", segment="APP1 EXIF",
    ),
    "jpeg-photoshop": Case(
        data=made.encode(quality="web_high"), code="jpeg-encoder", strength="weak", points_to="edited",
        words="Photoshop (web_high", segment="DQT", marker=b"\xff\xdb",
    ),
    "jpeg-quality": Case(
        data=made.encode(quality=83, subsampling=1, progressive=True), code="jpeg-encoder", strength="neutral",
        points_to=None, words="libjpeg, quality 83; 4:2:2, progressive", segment="DQT", marker=b"\xff\xdb",
    ),
    "adobe": Case(
        data=made.encode(made.scene().convert("CMYK")), code="adobe-segment", strength="neutral", points_to=None,
        words="APP14", segment="APP14 Adobe", marker=b"\xff\xee",
    ),
    "trailing": Case(
        data=made.encode() + b"PK\x03\x04" + bytes(60), code="trailing-bytes", strength="neutral", points_to=None,
        words="a ZIP archive", segment="end of picture", marker=b"PK",
    ),
    "cut-off": Case(
        data=made.encode()[:-2], code="no-end", strength="neutral", points_to=None, words="without the end marker",
        segment="end of file",
    ),
}  # fmt: skip


def of_code(findings: MetadataFindings, code: str) -> list[MetadataFinding]:
    return [finding for finding in findings.findings if finding.code == code]


@pytest.mark.parametrize("make", ["Midjourney Cameras Ltd", "Canon (Stable Diffusion rig)", "Not OpenAI", "Ideogram"])
def test_a_camera_whose_maker_is_called_like_a_generator_stays_a_camera(make: str) -> None:
    codes = {finding.code for finding in inspect_metadata(jpeg_exif({**CAMERA, 0x010F: make}, EXPOSURE)).findings}
    assert "camera" in codes and "generator" not in codes


@pytest.mark.parametrize(
    ("software", "strength"),
    [
        ("Adobe Photoshop Elements Organizer 21.0", "weak"),
        ("Adobe Photoshop Elements 21.0 (Windows)", "moderate"),
        ("Adobe Photoshop Album Starter Edition", "weak"),
        ("Adobe Photoshop Lightroom 6.0", "weak"),
        ("Adobe Photoshop CS6 (Windows)", "moderate"),
    ],
)
def test_programs_that_sort_pictures_are_no_editors(software: str, strength: str) -> None:
    findings = inspect_metadata(jpeg_exif({0x0131: software})).findings
    assert [finding.strength for finding in findings if finding.code == "editor"] == [strength]


def test_trust_anchors_are_read_for_every_picture(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "binary.pem").write_bytes(b"\xff\xfe")
    for anchors in (tmp_path / "none.pem", tmp_path, tmp_path / "text.pem", tmp_path / "binary.pem", 5):
        with pytest.raises(InvalidOption, match="trust_anchors"):
            inspect_metadata(PORTRAIT, trust_anchors=anchors)  # type: ignore[arg-type]
    done = CliRunner().invoke(main, ["metadata", str(PORTRAIT), "--trust-anchors", str(tmp_path / "none.pem")])
    assert done.exit_code == 2 and "trust_anchors" in done.stderr


@pytest.mark.parametrize("name", CASES)
def test_a_trace_is_found_where_it_was_put(name: str) -> None:
    case = CASES[name]
    found = of_code(inspect_metadata(case.data), case.code)
    assert len(found) >= 1, name
    finding = next(finding for finding in found if case.words in finding.what)
    assert (finding.strength, finding.points_to, finding.segment) == (case.strength, case.points_to, case.segment)
    if case.marker:
        at = case.data.index(case.marker)
        assert finding.offset is not None and at - 8 <= finding.offset <= at


ROWS = {
    "Stable Diffusion web UI and its forks": ("a1111-png", "a1111-jpeg", "a1111-webp"),
    "ComfyUI": ("comfyui-prompt", "comfyui-workflow", "comfyui-webp"),
    "SwarmUI": ("swarmui",),
    "Fooocus": ("fooocus",),
    "InvokeAI": ("invokeai", "invokeai-1", "invokeai-2"),
    "NovelAI": ("novelai", "novelai-comment"),
    "Easy Diffusion": ("easy-diffusion",),
    "Draw Things": ("draw-things", "draw-things-comment"),
    "Midjourney": ("midjourney",),
    "DALL-E, GPT-4o, GPT Image, Sora": ("openai",),
    "Adobe Firefly": ("firefly",),
    "Gemini, Imagen": ("google-xmp", "google-iptc"),
    "Grok": ("grok",),
    "FLUX": ("flux",),
    "Ideogram": ("ideogram",),
    "services in China": ("tc260-xmp", "tc260-png", "tc260-app", "tc260-exif"),
    "any": ("source-type", "source-type-part", "ai-field"),
}
"""Rows of the table of generators in the documentation, and the made files that show that they are true."""


def test_every_row_of_the_documented_table_has_a_file_that_is_recognised() -> None:
    page = (PORTRAIT.parents[1] / "docs" / "provenance.md").read_text("utf-8")
    table = page.partition("## Traces of generators")[2].partition("\n\nMidjourney's")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows == list(ROWS)
    assert all(CASES[name].strength == "strong" for names in ROWS.values() for name in names)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_a_file_without_traces_is_neutral(format_name: str) -> None:
    findings = inspect_metadata(made.encode(made.scene(48), format_name))
    assert findings.format == format_name
    assert findings.size_hw == (48, 48)
    assert findings.strongest == "neutral"
    assert findings.c2pa == "absent"
    if format_name != "TIFF":  # whose tags are the container
        assert of_code(findings, "no-metadata")[0].not_proof.startswith("anything")


def test_words_that_look_like_a_trace_are_none() -> None:
    data = made.with_chunk(b"tEXt", b"Comment\0Steps: take the stairs. Sampler of wools.", data=None)
    data = made.with_chunk(b"tEXt", b"prompt\0what the teacher said", data=data)
    data = made.with_chunk(b"tEXt", b"Description\0fireflies; an imagen of Gemini, the twins", data=data)
    data = made.with_chunk(b"tEXt", b"workflow\0scan, then crop", data=data)
    assert inspect_metadata(data).strongest == "neutral"


def test_places_are_stated_and_given_only_when_asked_for() -> None:
    place = {1: "N", 2: (52.0, 30.0, 36.0), 3: "E", 4: (13.0, 24.0, 18.0)}
    data = jpeg_exif(CAMERA, EXPOSURE, place)
    hidden, shown = inspect_metadata(data), inspect_metadata(data, show_location=True)
    assert "52.51" not in hidden.to_json() and "13.40" not in hidden.to_json()
    assert of_code(hidden, "gps")[0].strength == "neutral"
    assert of_code(shown, "gps")[0].value == "52.51000 N, 13.40500 E"
    with pytest.raises(dd.InvalidOption, match="show_location"):
        inspect_metadata(data, show_location="yes")  # type: ignore[arg-type]


def test_what_may_be_given(tmp_path: Path) -> None:
    data = CASES["photoshop"].data
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with Image.open(path) as image:
        given = [path, str(path), data, bytearray(data), io.BytesIO(data), image]
        results = [inspect_metadata(item).findings for item in given]
    assert all(result == results[0] for result in results)
    for pixels in (np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))):
        with pytest.raises(dd.ImageUnreadable, match="hold no metadata; pass the path"):
            inspect_metadata(pixels)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x00\x00\x00\x18ftypmp42", "video"),
        (b"just text", "text"),
        (b"\xff\xd8", "begins like none"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str) -> None:
    with pytest.raises(dd.ImageUnreadable, match=words):
        inspect_metadata(data)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(dd.ImageUnreadable, match="no such file"):
        inspect_metadata("no-such.jpg")


def test_results_are_ordered_and_can_be_kept(tmp_path: Path) -> None:
    findings = inspect_metadata(CASES["flux"].data)
    ranks = [("strong", "moderate", "weak", "neutral").index(finding.strength) for finding in findings.findings]
    assert ranks == sorted(ranks) and findings.strongest == "strong"
    assert findings.pointing_to("generated") and not findings.pointing_to("captured")
    assert repr(findings) == "MetadataFindings(2 strong, 1 neutral, C2PA absent, JPEG, <bytes>)"
    assert "does not prove" in str(findings) and "<table>" in findings._repr_html_()
    findings.save(tmp_path / "a.json")
    findings.save(tmp_path / "a.txt")
    assert json.loads((tmp_path / "a.json").read_text()) == findings.to_dict()
    assert (tmp_path / "a.txt").read_text() == f"{findings}\n"
    assert [row["code"] for row in findings.to_rows()] == [finding.code for finding in findings.findings]
    with pytest.raises(dd.InvalidOption, match=r"expected \.json or \.txt"):
        findings.save(tmp_path / "a.png")
    assert all(finding.not_proof for finding in findings.findings)
    with pytest.raises(AttributeError):
        findings.name = "b"  # type: ignore[misc]


def test_html_shows_no_markup_of_the_file() -> None:
    html = inspect_metadata(made.png_text("Software", "<script>alert(1)</script>GIMP"))._repr_html_()
    assert "<script>" not in html


def test_a_real_photograph_has_nothing_strong() -> None:
    assert inspect_metadata(PORTRAIT).strongest == "neutral"


def test_the_command_prints_every_finding(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from deepfake_detect.cli.main import main

    path, other = tmp_path / "a.png", tmp_path / "none.jpg"
    path.write_bytes(CASES["invokeai"].data)
    result = CliRunner().invoke(main, ["metadata", str(path)])
    assert result.exit_code == 0
    assert "InvokeAI" in result.stdout and "does not prove" in result.stdout and "PNG tEXt, byte 33" in result.stdout
    result = CliRunner().invoke(main, ["metadata", "--json", str(path), str(other)])
    assert result.exit_code == 1 and "no such file" in result.stderr
    good, bad = json.loads(result.stdout)
    assert good["findings"] == [{**finding} for finding in inspect_metadata(path).to_dict()["findings"]]
    assert bad["error"]["type"] == "ImageUnreadable" and bad["findings"] == []
    lines = CliRunner().invoke(main, ["metadata", "--jsonl", str(path)]).stdout.splitlines()
    assert json.loads(lines[0])["strongest"] == "strong"
    table = CliRunner().invoke(main, ["metadata", "--csv", str(path)]).stdout
    assert table.startswith("name,strength,points_to,code,what,segment,offset,not_proof,value,error\n")
