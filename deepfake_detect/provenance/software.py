"""Names of editing programs and of image generators, as they stand in the software fields of EXIF, XMP and IPTC."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.findings import Findings, Strength, found_in

EDITORS: Final = (
    "Photoshop",
    "GIMP",
    "Affinity Photo",
    "Pixelmator",
    "Paint.NET",
    "PaintShop",
    "Paint Shop Pro",
    "Photopea",
    "PicsArt",
    "Picsart",
    "Canva",
    "Fotor",
    "BeFunky",
    "Luminar",
    "PhotoScape",
    "PhotoDirector",
    "CorelDRAW",
    "Krita",
    "Pixlr",
    "Acorn",
    "Microsoft Paint",
)
"""Programs that change the content of pictures, among other things."""

FACE_EDITORS: Final = (
    "FaceApp",
    "Facetune",
    "YouCam",
    "BeautyPlus",
    "Meitu",
    "Remini",
    "AirBrush",
    "B612",
    "SNOW",
    "Reface",
    "FaceSwap",
    "DeepFaceLab",
    "FaceFusion",
    "Perfect365",
    "Peachy",
    "Retouch4me",
    "PortraitPro",
)
"""Programs whose purpose is to change faces."""

DEVELOPERS: Final = (
    "Lightroom",
    "Photoshop Elements Organizer",
    "Photoshop Album",
    "Snapseed",
    "Capture One",
    "darktable",
    "RawTherapee",
    "DxO",
    "VSCO",
    "ACDSee",
    "Adobe Camera Raw",
    "Camera Raw",
    "Aperture",
    "Picasa",
    "Instagram",
    "IrfanView",
    "XnView",
    "ImageMagick",
    "Google Photos",
    "digiKam",
    "Silkypix",
    "ON1",
)
"""Programs that mostly develop, sort, crop, resize or convert photographs."""

GENERATORS: Final = {
    "Stable Diffusion": "Stable Diffusion",
    "ComfyUI": "ComfyUI",
    "AUTOMATIC1111": "Stable Diffusion web UI",
    "InvokeAI": "InvokeAI",
    "Fooocus": "Fooocus",
    "NovelAI": "NovelAI",
    "Draw Things": "Draw Things",
    "SwarmUI": "SwarmUI",
    "Midjourney": "Midjourney",
    "DALL-E": "DALL-E",
    "DALL·E": "DALL-E",
    "ChatGPT": "ChatGPT",
    "GPT-4o": "GPT-4o",
    "gpt-image": "GPT Image",
    "OpenAI": "OpenAI",
    "Adobe Firefly": "Adobe Firefly",
    "Adobe_Firefly": "Adobe Firefly",
    "Firefly Image": "Adobe Firefly",
    "Made with Google AI": "Google Gemini or Imagen",
    "Edited with Google AI": "Google AI",
    "Google Imagen": "Google Imagen",
    "Google Gemini": "Google Gemini",
    "AI generated;txt2img;flux": "FLUX",
    "AI generated;img2img;flux": "FLUX",
    "Black Forest Labs": "FLUX",
    "Ideogram AI": "Ideogram",
    "Leonardo.Ai": "Leonardo.Ai",
    "Bing Image Creator": "Bing Image Creator",
    "Microsoft Designer": "Microsoft Designer",
    "DreamStudio": "Stability AI",
    "Stability AI": "Stability AI",
}
"""Text in a field to the name of the generator; names that are common words are left out."""

_GENERATOR_NOT_PROOF = (
    "that the whole picture is synthetic (generators also change photographs), nor that the label is true: anybody "
    "can write or remove it"
)
_EDITOR_NOT_PROOF = "that anything was forged: the program also writes its name when it crops, resizes or converts"
_RANKS: tuple[tuple[tuple[str, ...], Strength, str], ...] = (
    (FACE_EDITORS, "moderate", "a program whose purpose is to change faces"),
    (DEVELOPERS, "weak", "a program that develops, sorts or converts photographs"),  # such as "Photoshop Lightroom"
    (EDITORS, "moderate", "an editing program"),
)


def describe_software(text: str, *, block: Block, field: str) -> Findings:
    """Describe the program that a software field names: a generator, an editor, or nothing that is known.

    Args:
        text: Content of the field.
        block: Where it stands.
        field: Name of the field, for the sentence.
    """
    generator = find_generator(text)
    if generator:
        what = f"{field} names the generator {generator}"
        yield found_in(
            block,
            "generator",
            what,
            strength="strong",
            points_to="generated",
            not_proof=_GENERATOR_NOT_PROOF,
            value=text,
        )
        return
    for names, strength, kind in _RANKS:
        name = next((name for name in names if _contains(text, name)), None)
        if name:
            what = f"{field} names {name}, {kind}"
            yield found_in(
                block,
                "editor",
                what,
                strength=strength,
                points_to="edited",
                not_proof=_EDITOR_NOT_PROOF,
                value=text,
            )
            return
    if text:
        what = f"{field} names a program that is not in the lists of editors and generators"
        yield found_in(block, "software", what, not_proof="anything about the picture", value=text)


def find_generator(text: str, *, is_whole: bool = False) -> str:
    """Return the generator that a text names; empty where it names none.

    Args:
        text: Of a field.
        is_whole: The text must be the name and nothing else, as for a field that mostly holds other names.

    Example:
        >>> find_generator("AI generated;txt2img;flux"), find_generator("Firefly lights, 2019")
        ('FLUX', '')
    """
    if is_whole:
        return next((name for word, name in GENERATORS.items() if text.strip().casefold() == word.casefold()), "")
    return next((name for word, name in GENERATORS.items() if _contains(text, word)), "")


def _contains(text: str, name: str) -> bool:
    return _pattern(name).search(text[:2000]) is not None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?![A-Za-z])", re.IGNORECASE)
