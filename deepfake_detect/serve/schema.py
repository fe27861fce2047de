"""What requests and answers look like: checked by pydantic, and described in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from deepfake_detect.predict.look import FaceChoice

Score = Annotated[float, Field(ge=0, le=1)]
_Strict = ConfigDict(extra="forbid", protected_namespaces=())
_Loose = ConfigDict(extra="allow", protected_namespaces=())


class Options(BaseModel):
    """How pictures are to be scored."""

    model_config = _Strict

    model: str | None = Field(
        None, max_length=200, description="A name of `GET /v1/models`; the default where missing."
    )
    faces: FaceChoice = Field(
        "auto",
        description="`all`: every face found; `auto`: the same, looking once more with a border where there is none; "
        "`largest`; `none`: the picture as it is.",
    )
    threshold: Score | None = Field(None, description="Score from which the label is `fake`, in place of the card's.")


class PredictOptions(Options):
    """How pictures are to be scored by `/v1/predict`."""

    content: bool = Field(
        False, strict=True, description="Say what each picture shows: animal, face, vehicle or other."
    )


class ExplainOptions(Options):
    """How a picture is to be explained."""

    method: (
        Literal["localise", "grad-cam", "grad-cam++", "hirescam", "eigen-cam", "integrated-gradients", "occlusion"]
        | None
    ) = None
    faithfulness: Literal["quick", "full", "off"] = Field("quick", description="How far the map is checked.")
    target: Literal["fake", "real"] | None = Field(None, description="Class to explain; the verdict where missing.")
    format: Literal["json", "png"] = Field("json", description="The figures as JSON, or the drawing as PNG.")


class MetadataOptions(BaseModel):
    """How metadata are to be read."""

    model_config = _Strict

    show_location: bool = Field(False, strict=True, description="Give GPS coordinates, where there are some.")


class VideoOptions(Options):
    """How a video is to be scored."""

    max_frames: int = Field(32, ge=1, le=512, description="Most frames that are scored.")
    every_s: float | None = Field(None, gt=0, le=86400, description="Score a frame every so many seconds instead.")


class PictureFile(BaseModel):
    """A picture by its file."""

    model_config = _Strict

    base64: str = Field(
        description="The file in base64; a data URI is taken, too.", examples=["iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB..."]
    )
    name: str | None = Field(None, max_length=255, description="Stands for the picture in the answer.")


class PictureAddress(BaseModel):
    """A picture by its address."""

    model_config = _Strict

    url: str = Field(
        max_length=4096,
        pattern=r"^[hH][tT][tT][pP][sS]?://",
        description="An http or https address that is public.",
        examples=["https://example.com/portrait.jpg"],
    )
    name: str | None = Field(None, max_length=255, description="Stands for the picture in the answer.")


def _kind_of(entry: Any) -> str:
    has_url = "url" in entry if isinstance(entry, dict) else hasattr(entry, "url")
    return "url" if has_url else "base64"


PictureInput = Annotated[
    Annotated[PictureFile, Tag("base64")] | Annotated[PictureAddress, Tag("url")], Discriminator(_kind_of)
]
"""A picture: its file in base64, or its public address."""


class Pictures(BaseModel):
    """The pictures of a request."""

    images: list[PictureInput] = Field(min_length=1, description="The pictures, answered in this order.")


class OnePicture(BaseModel):
    """The picture of a request."""

    images: list[PictureInput] = Field(min_length=1, max_length=1, description="The picture.")


class PredictRequest(Pictures, PredictOptions):
    """Pictures to score."""

    model_config = _Strict


class ExplainRequest(OnePicture, ExplainOptions):
    """A picture to explain."""

    model_config = _Strict


class StabilityRequest(OnePicture, Options):
    """A picture to score under compression, scaling and cropping."""

    model_config = _Strict


class MetadataRequest(Pictures, MetadataOptions):
    """Pictures whose metadata are to be read."""

    model_config = _Strict


class ErrorText(BaseModel):
    """Why something was not done."""

    type: str = Field(description="Class of the error, as the Python library names it.", examples=["ImageUnreadable"])
    message: str = Field(examples=["notes.txt: looks like text; expected a picture: JPEG, PNG, WebP ..."])


class ErrorAnswer(BaseModel):
    """The answer to a request that was refused."""

    error: ErrorText
    request_id: str


class FaceAnswer(BaseModel):
    """A face and its verdict."""

    box_xyxy: list[float] = Field(description="Left, top, right, bottom in pixels of the upright picture.")
    landmarks_xy: list[list[float]]
    confidence: float
    score: float | None
    logit: float | None
    label: str | None
    looks: dict[str, float | None] | None = Field(
        default=None, description="Of a model with two looks: the logit of each, null where it was withheld."
    )


class PredictionAnswer(BaseModel):
    """The verdict on a picture: `Prediction.to_dict()` of the Python library."""

    model_config = _Loose

    name: str
    label: Literal["real", "fake", "uncertain", "no-face", "error"]
    score: Score | None = Field(description="Calibrated probability of fake: the highest of the faces.")
    logit: float | None
    threshold: float
    faces: list[FaceAnswer]
    size_hw: list[int] | None
    model: str
    revision: str | None
    seconds: float
    backend: str
    dtype: str
    error: ErrorText | None = Field(description="Why this picture could not be scored; the others are.")


class PredictAnswer(BaseModel):
    """The verdicts, one for each picture in the order of the request."""

    predictions: list[PredictionAnswer]


class ExplanationAnswer(BaseModel):
    """Where a score comes from: `Explanation.to_dict()`."""

    model_config = _Loose

    name: str
    label: str
    score: float | None
    method: str
    layer: str | None
    target: str
    is_evidence: bool
    reasons: list[str]
    regions: dict[str, float]


class StabilityAnswer(BaseModel):
    """The scores under each way of delivery: `Stability.to_dict()`."""

    model_config = _Loose

    name: str
    label: str
    score: float | None
    interval: list[float] | None
    holds: bool
    flips: list[str]
    scores: dict[str, float | None]
    labels: dict[str, str]


class MetadataEntry(BaseModel):
    """What a file says of its origin: `MetadataFindings.to_dict()`, or the error of a file that cannot be read."""

    model_config = _Loose

    name: str


class MetadataAnswer(BaseModel):
    """The findings, one entry for each picture in the order of the request."""

    metadata: list[MetadataEntry]


class VideoJob(BaseModel):
    """A video that is being scored."""

    id: str
    status: Literal["waiting", "running", "done", "failed"]
    progress: float = Field(ge=0, le=1)
    result: dict[str, Any] | None = Field(description="`VideoPrediction.to_dict()`, once it is done.")
    error: ErrorText | None


class ModelAnswer(BaseModel):
    """A model of this server."""

    name: str = Field(description="To be passed as `model`.")
    id: str
    default: bool
    card: dict[str, Any] = Field(description="Everything that the weights say of themselves.")


class ModelsAnswer(BaseModel):
    """The models of this server."""

    models: list[ModelAnswer]
    version: str


class Health(BaseModel):
    """Whether the server answers."""

    status: str
