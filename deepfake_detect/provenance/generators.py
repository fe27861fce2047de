"""Recognise what image generators write into text fields: prompts, workflows, job numbers, labels.

docs/provenance.md lists for each rule who writes the trace, with its source. The texts are searched, never parsed, so
that their depth and size do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.findings import Findings, Strength, found_in
from deepfake_detect.provenance.software import describe_software, find_generator

SEARCHED_CHARACTERS: Final = 2**18

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NOT_PROOF = (
    "that the whole picture is synthetic (such programs also change photographs), nor that the text is true: anybody "
    "can write it into any file"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text from a file.

    Attributes:
        key: Keyword or name of the field, such as ``"parameters"`` or ``"UserComment"``.
        text: The text.
        block: The block that it stands in.
    """

    key: str
    text: str
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How to recognise the text of one generator.

    Attributes:
        generator: Its name.
        what: What the text is.
        key: The key must match this in full, in any case.
        texts: The text must match each of these somewhere; one by one, since ``.*`` between them takes time squared.
        strength: How strong the trace is.
    """

    generator: str
    what: str
    key: str = ".*"
    texts: tuple[str, ...] = ()
    strength: Strength = "strong"


RULES: Final = (
    Rule(generator="SwarmUI", what="generation parameters", texts=(r'"sui_image_params"',)),
    Rule(generator="Fooocus", what="generation parameters", key="fooocus_scheme"),
    Rule(generator="Fooocus", what="generation parameters", texts=(r"Version: Fooocus|\"version\": \"Fooocus",)),
    Rule(generator="Stable Diffusion web UI", what="generation parameters", texts=(r"\bSteps: \d+, ", r"\bSampler: ")),
    Rule(
        generator="ComfyUI", what="a graph of nodes", key="prompt|Model|Make|UserComment", texts=(r'"class_type"\s*:',)
    ),
    Rule(generator="ComfyUI", what="a workflow", key="workflow|Make|Model", texts=(r'"nodes"\s*:', r'"links"\s*:')),
    Rule(generator="InvokeAI", what="generation parameters", key="invokeai_(metadata|graph|workflow)"),
    Rule(generator="InvokeAI", what="generation parameters", key="sd-metadata"),
    Rule(generator="InvokeAI", what="a command", key="Dream", texts=(r"-s ?\d+", r" -S ?\d+")),
    Rule(generator="NovelAI", what="its title", key="Title", texts=(r"^(NovelAI|AI) generated image$",)),
    Rule(generator="NovelAI", what="signed generation parameters", key="Comment", texts=(r'"signed_hash"\s*:',)),
    Rule(generator="Easy Diffusion", what="generation parameters", key="use_stable_diffusion_model"),
    Rule(generator="Easy Diffusion", what="generation parameters", texts=(r'"use_stable_diffusion_model"\s*:',)),
    Rule(
        generator="Draw Things",
        what="generation parameters",
        key="exif:UserComment",
        texts=(r'"c"\s*:', r'"(scale|sampler|seed)"\s*:'),
    ),
    Rule(
        generator="Midjourney",
        what="a prompt with the number of its job",
        key=".*description",
        texts=(rf"Job ID: {_UUID}",),
    ),
    Rule(
        generator="a generator under China's labelling rules",
        what="the label of TC260",
        key="AIGC|TC260:AIGC",
        texts=(r"Label|ContentProducer|ServiceProvider",),
    ),
    Rule(
        generator="a generator under China's labelling rules",
        what="the label of TC260",
        texts=(r'"AIGC"\s*:\s*\{[^{}]*"(Label|ContentProducer|ServiceProvider)"',),
    ),
    Rule(
        generator="Hugging Face, most often of a generator,",
        what="the number of a job",
        key="hf-job-id",
        strength="moderate",
    ),
)
"""In the order in which they are tried; the first that matches a text is reported."""

_CREDIT_KEYS = ("source", "creator tool", "photoshop:credit")


def describe_texts(texts: Iterable[Text]) -> Findings:
    """Name the generators that wrote these texts, and the programs that they mention."""
    for text in {(text.key, text.text): text for text in texts}.values():  # duplicates add nothing
        rule = next((rule for rule in RULES if _matches(rule, text)), None)
        if rule is not None:
            yield found_in(
                text.block,
                "generator",
                f"{rule.what} of {rule.generator} in the field {text.key[:60]}",
                strength=rule.strength,
                points_to="generated",
                not_proof=_NOT_PROOF,
                value=text.text,
            )
        elif text.key.lower() == "software" or (text.key.lower() in _CREDIT_KEYS and find_generator(text.text)):
            yield from describe_software(text.text, block=text.block, field=f"the field {text.key}")


def describe_signature(*, description: str, artist: str, block: Block) -> Findings:
    """Recognise the pair of EXIF fields that xAI's Grok writes: a signature, and the number of the picture."""
    if re.fullmatch(r"Signature: [A-Za-z0-9+/=]{64,}", description) and re.fullmatch(_UUID, artist):
        yield found_in(
            block,
            "generator",
            "the pair of fields that Grok writes: a signature as ImageDescription, a UUID as Artist",
            strength="strong",
            points_to="generated",
            not_proof="that xAI signed it: the key to check the signature is not public",
            value=artist,
        )


def _matches(rule: Rule, text: Text) -> bool:
    if not re.fullmatch(rule.key, text.key[:100], re.IGNORECASE | re.DOTALL):
        return False
    searched = text.text[:SEARCHED_CHARACTERS]
    return all(re.search(pattern, searched) for pattern in rule.texts)
