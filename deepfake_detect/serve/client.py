"""Use a server from Python: the same calls and results as those of a `Detector`."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from PIL import Image

from deepfake_detect._options import check_choice, check_number
from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable, MissingExtra, ServerUnavailable
from deepfake_detect.inputs.image import ImageInput, open_image
from deepfake_detect.inputs.source import open_bytes
from deepfake_detect.predict.intake import reading, safe_name, take_over
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction, Predictions
from deepfake_detect.serve.results import (
    error_from_dict,
    metadata_from_dict,
    prediction_from_dict,
    renamed,
    stability_from_dict,
    video_from_dict,
)

if TYPE_CHECKING:
    import httpx2

    from deepfake_detect.evaluation.stability import Stability
    from deepfake_detect.provenance.findings import MetadataFindings
    from deepfake_detect.video.predict import VideoPrediction

Answer = TypeVar("Answer")

_LONGEST_WAIT_S = 30.0
_POLL_S = 0.5
_FILES = (str, os.PathLike, bytes, bytearray, memoryview)


@dataclass(slots=True, kw_only=True)
class _Send:
    """A request that is to be sent."""

    method: str
    path: str
    files: list[tuple[str, tuple[str, Any]]] = field(default_factory=list)
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Wait:
    """A pause that is to be made."""

    seconds: float


@dataclass(slots=True, eq=False)
class _Picture:
    """A picture that was read, to be sent."""

    name: str
    content: bytes
    source: Any


@dataclass(slots=True, eq=False)
class _Failed:
    """A picture that cannot be scored, and why."""

    name: str
    error: DeepfakeDetectError


_Steps = Generator["_Send | _Wait", Any, Answer]  # what a call does, whoever sends and waits


class _Connection:
    """What the client and the asynchronous client have in common."""

    def __init__(
        self, url: str, *, key: str | None = None, model: str | None = None, timeout_s: float = 60.0, retries: int = 4
    ) -> None:
        check_number("timeout_s", timeout_s, above=0)
        check_number("retries", retries, low=0, whole=True)
        self.url, self.model, self.retries = url.rstrip("/"), model, retries
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._transport_error: type[Exception] = _httpx().TransportError
        self._known_model: dict[str, Any] | None = None
        self._settings: dict[str, Any] = {"base_url": self.url, "headers": headers, "timeout": timeout_s}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _predict(self, pictures: Sequence[_Picture], **options: Any) -> _Steps[list[Prediction]]:
        answer = yield from self._post("/v1/predict", pictures, options)
        return [
            renamed(prediction_from_dict(values), picture.name, picture.source)
            for values, picture in zip(answer["predictions"], pictures, strict=True)
        ]

    def _predict_or_fail(self, pictures: Sequence[_Picture], **options: Any) -> _Steps[list[Prediction]]:
        predictions = yield from self._predict(pictures, **options)
        for prediction in predictions:
            if prediction.error is not None:
                raise prediction.error
        return predictions

    def _predict_each(self, pictures: Sequence[_Picture | _Failed], **options: Any) -> _Steps[list[Prediction]]:
        """Score pictures; one that cannot be read, here or by the server, is a prediction with an error."""
        readable = [picture for picture in pictures if isinstance(picture, _Picture)]
        failures = {id(picture): picture for picture in pictures if isinstance(picture, _Failed)}
        predictions: dict[int, Prediction] = {}
        try:
            scored = (yield from self._predict(readable, **options)) if readable else []
            predictions = {id(picture): one for picture, one in zip(readable, scored, strict=True)}
        except ServerUnavailable:
            raise
        except DeepfakeDetectError as error:
            if len(readable) > 1:  # the request is refused as a whole, and so would be every other
                raise
            failures[id(readable[0])] = _Failed(readable[0].name, error)
        if failures:
            model = yield from self._default_model()
        for place, failed in failures.items():
            predictions[place] = _failed_prediction(failed, model, options.get("threshold"))
        return [predictions[id(picture)] for picture in pictures]

    def _default_model(self) -> _Steps[dict[str, Any]]:
        if self._known_model is None:
            models = yield from self._models()
            chosen = [
                one for one in models if self.model in (one["name"], one["id"]) or (not self.model and one["default"])
            ]
            self._known_model = chosen[0]
        return self._known_model

    def _stability(self, picture: _Picture, **options: Any) -> _Steps[Stability]:
        answer = yield from self._post("/v1/stability", [picture], options)
        stability: Stability = renamed(stability_from_dict(answer), picture.name, picture.source)
        return stability

    def _metadata(self, picture: _Picture, **options: Any) -> _Steps[MetadataFindings]:
        answer = yield from self._post("/v1/metadata", [picture], options)
        findings: MetadataFindings = renamed(metadata_from_dict(answer["metadata"][0]), picture.name)
        return findings

    def _explain(self, picture: _Picture, **options: Any) -> _Steps[dict[str, Any]]:
        answer: dict[str, Any] = yield from self._post("/v1/explain", [picture], options)
        return {**answer, "name": picture.name}

    def _explain_as_picture(self, picture: _Picture, **options: Any) -> _Steps[Image.Image]:
        response = yield from self._exchange(self._upload("/v1/explain", [picture], {**options, "format": "png"}))
        return Image.open(io.BytesIO(response.content))

    def _video(self, path: str | os.PathLike[str], **options: Any) -> _Steps[VideoPrediction]:
        try:
            file = Path(path).expanduser().read_bytes()
        except OSError as error:
            raise ImageUnreadable(f"{path}: cannot be read ({error.strerror or error})") from None
        send = _Send(
            method="POST", path="/v1/video", files=[("video", (Path(path).name, file))], fields=self._fields(options)
        )
        job = (yield from self._exchange(send)).json()
        while job["status"] not in ("done", "failed"):
            yield _Wait(_POLL_S)
            job = (yield from self._exchange(_Send(method="GET", path=f"/v1/video/{job['id']}"))).json()
        yield from self._exchange(_Send(method="DELETE", path=f"/v1/video/{job['id']}"))
        if job["error"] is not None:
            raise error_from_dict(job["error"])
        video: VideoPrediction = renamed(video_from_dict(job["result"]), str(path))
        return video

    def _models(self) -> _Steps[list[dict[str, Any]]]:
        response = yield from self._exchange(_Send(method="GET", path="/v1/models"))
        models: list[dict[str, Any]] = response.json()["models"]
        return models

    def _post(self, path: str, pictures: Sequence[_Picture], options: Mapping[str, Any]) -> _Steps[Any]:
        response = yield from self._exchange(self._upload(path, pictures, options))
        return response.json()

    def _upload(self, path: str, pictures: Sequence[_Picture], options: Mapping[str, Any]) -> _Send:
        files = [("images", (Path(picture.name).name or "picture", picture.content)) for picture in pictures]
        return _Send(method="POST", path=path, files=files, fields=self._fields(options))

    def _fields(self, options: Mapping[str, Any]) -> dict[str, str]:
        chosen = {"model": self.model, **options}
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in chosen.items()
            if value is not None
        }

    def _exchange(self, send: _Send) -> _Steps[httpx2.Response]:
        """Send a request, and again where the server is busy or cannot be reached."""
        problem = ""
        for attempt in itertools.count():
            response: httpx2.Response | Exception = yield send
            if isinstance(response, Exception):
                problem = f"cannot be reached ({type(response).__name__}: {response})"
            elif response.status_code != 503:
                return _checked(response)
            else:
                problem = f"is busy ({_message(response)['message']})"
            if attempt >= self.retries:
                break
            yield _Wait(_pause(response, attempt))
        raise ServerUnavailable(
            f"{self.url} {problem}, {self.retries + 1} times; try again later, or check the address"
        )


class Client(_Connection):
    """A server that is used like a `Detector`.

    Pictures are read here and sent as files: a path or address is this machine's, as for a `Detector`, and arrays are
    sent without loss. Close it, or use it in a ``with`` block, to close its connections. May be used from several
    threads at once.

    Args:
        url: Address of the server, such as ``"http://127.0.0.1:8000"``.
        key: API key, where the server asks for one.
        model: One of the server's models; None takes its default.
        timeout_s: Seconds in which the server must answer.
        retries: How often a request is repeated where the server is busy (503) or cannot be reached; it is waited as
            long as the server says.
        transport: Of httpx, in place of the network; for tests.

    Raises:
        MissingExtra: httpx2 is not installed.

    Example:
        >>> client = Client("http://127.0.0.1:8000")
        >>> client
        Client('http://127.0.0.1:8000')
        >>> client.close()
    """

    def __init__(self, url: str, *, transport: httpx2.BaseTransport | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._http: httpx2.Client = _httpx().Client(transport=transport, **self._settings)

    @overload
    def predict(
        self,
        image: ImageInput,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Predictions: ...

    def predict(
        self,
        image: ImageInput | list[Any] | tuple[Any, ...],
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Prediction | Predictions:
        """Score one picture, or several at once, as `Detector.predict`.

        Args:
            image: Path, http(s) URL, data URI, bytes, file object, PIL image, RGB HWC uint8 array or CHW tensor; or a
                list or tuple of these, which the server takes as one request.
            faces: As for `Detector.predict`.
            threshold: As for `Detector.predict`.
            content: As for `Detector.predict`.

        Returns:
            The prediction, or a list of them in the same order.

        Raises:
            ImageUnreadable: Not a picture.
            ImageTooLarge: More bytes or pixels than the server takes.
            ServerUnavailable: The server cannot be reached, refuses, or has too much to do.
        """
        options = {"faces": faces, "threshold": threshold, "content": content}
        if isinstance(image, list | tuple):
            return Predictions(self._run(self._predict_or_fail([_read(one) for one in image], **options)))
        return self._run(self._predict_or_fail([_read(image)], **options))[0]

    __call__ = predict

    def predict_many(
        self, images: Iterable[Any], *, batch_size: int = 8, on_error: str = "raise", **options: Any
    ) -> Generator[Prediction, None, None]:
        """Score many pictures, in order, as they come.

        Args:
            images: Any iterable of pictures; may be endless.
            batch_size: Pictures in a request.
            on_error: ``"raise"`` or ``"yield"``, as for `Detector.predict_many`.
            **options: ``faces``, ``threshold`` and ``content`` of `predict`.

        Yields:
            A prediction for each picture.
        """
        check_choice("on_error", on_error, ("raise", "yield"))
        check_number("batch_size", batch_size, low=1, whole=True)
        source = iter(images)
        while batch := [_read_or_failed(image) for image in itertools.islice(source, batch_size)]:
            for prediction in self._run(self._predict_each(batch, **options)):
                if prediction.error is not None and on_error == "raise":
                    raise prediction.error
                yield prediction

    def stability(self, image: ImageInput, *, faces: FaceChoice = "auto", threshold: float | None = None) -> Stability:
        """Score a picture under compression, scaling and cropping, as `Detector.stability`."""
        return self._run(self._stability(_read(image), faces=faces, threshold=threshold))

    def inspect_metadata(self, image: ImageInput, *, show_location: bool = False) -> MetadataFindings:
        """Read what a picture file says of its own origin, as `deepfake_detect.inspect_metadata`."""
        return self._run(self._metadata(_read(image), show_location=show_location))

    def explain(self, image: ImageInput, **options: Any) -> dict[str, Any]:
        """Explain a verdict.

        Args:
            image: See `predict`.
            **options: ``method``, ``faces``, ``faithfulness``, ``target`` and ``threshold`` of `Detector.explain`.

        Returns:
            What `Explanation.to_dict` gives: everything but the heat map.
        """
        return self._run(self._explain(_read(image), **options))

    def plot_explanation(self, image: ImageInput, **options: Any) -> Image.Image:
        """Draw an explanation, as `Explanation.plot`.

        Args:
            image: See `predict`.
            **options: See `explain`.

        Returns:
            RGB picture.
        """
        return self._run(self._explain_as_picture(_read(image), **options))

    def predict_video(self, path: str | os.PathLike[str], **options: Any) -> VideoPrediction:
        """Score a video, as `Detector.predict_video`; waits until the server has done so.

        Args:
            path: A video file on this machine.
            **options: ``max_frames``, ``every_s``, ``faces`` and ``threshold`` of `Detector.predict_video`.
        """
        return self._run(self._video(path, **options))

    def models(self) -> list[dict[str, Any]]:
        """List the server's models: ``name``, ``id``, ``default`` and ``card``."""
        return self._run(self._models())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: _Steps[Answer]) -> Answer:
        reply: Any = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            if isinstance(step, _Wait):
                time.sleep(step.seconds)
                reply = None
            else:
                reply = self._sent(step)

    def _sent(self, step: _Send) -> httpx2.Response | Exception:
        try:
            response: httpx2.Response = self._http.request(step.method, step.path, **_arguments(step))
        except self._transport_error as error:
            return error
        return response


class AsyncClient(_Connection):
    """A server that is used like a `Detector`, from asynchronous code.

    Args:
        url: As for `Client`, as are all others.
        transport: Of httpx, in place of the network; for tests.

    Raises:
        MissingExtra: httpx2 is not installed.
    """

    def __init__(self, url: str, *, transport: httpx2.AsyncBaseTransport | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._http: httpx2.AsyncClient = _httpx().AsyncClient(transport=transport, **self._settings)

    async def predict(
        self,
        image: Any,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Any:
        """Score one picture, or a list of several, as `Client.predict`."""
        several = isinstance(image, list | tuple)
        pictures = await asyncio.to_thread(lambda: [_read(one) for one in (image if several else [image])])
        options = {"faces": faces, "threshold": threshold, "content": content}
        predictions = await self._run(self._predict_or_fail(pictures, **options))
        return Predictions(predictions) if several else predictions[0]

    async def stability(
        self, image: ImageInput, *, faces: FaceChoice = "auto", threshold: float | None = None
    ) -> Stability:
        """Score a picture under compression, scaling and cropping, as `Client.stability`."""
        picture = await asyncio.to_thread(_read, image)
        return await self._run(self._stability(picture, faces=faces, threshold=threshold))

    async def inspect_metadata(self, image: ImageInput, *, show_location: bool = False) -> MetadataFindings:
        """Read what a picture file says of its own origin, as `Client.inspect_metadata`."""
        picture = await asyncio.to_thread(_read, image)
        return await self._run(self._metadata(picture, show_location=show_location))

    async def explain(self, image: ImageInput, **options: Any) -> dict[str, Any]:
        """Explain a verdict, as `Client.explain`."""
        picture = await asyncio.to_thread(_read, image)
        return await self._run(self._explain(picture, **options))

    async def plot_explanation(self, image: ImageInput, **options: Any) -> Image.Image:
        """Draw an explanation, as `Client.plot_explanation`."""
        picture = await asyncio.to_thread(_read, image)
        return await self._run(self._explain_as_picture(picture, **options))

    async def predict_video(self, path: str | os.PathLike[str], **options: Any) -> VideoPrediction:
        """Score a video, as `Client.predict_video`."""
        return await self._run(self._video(path, **options))

    async def models(self) -> list[dict[str, Any]]:
        """List the server's models, as `Client.models`."""
        return await self._run(self._models())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, steps: _Steps[Answer]) -> Answer:
        reply: Any = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            if isinstance(step, _Wait):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await self._sent(step)

    async def _sent(self, step: _Send) -> httpx2.Response | Exception:
        try:
            response: httpx2.Response = await self._http.request(step.method, step.path, **_arguments(step))
        except self._transport_error as error:
            return error
        return response


def _arguments(step: _Send) -> dict[str, Any]:
    return {"files": step.files, "data": step.fields} if step.files else {}


def _read(image: Any) -> _Picture:
    """Read the file of a picture; of what is no file, its pixels as PNG, without loss."""
    taken = take_over(image, read_fresh=True)
    held = taken.image
    with reading(taken.name):
        if isinstance(held, _FILES) or hasattr(held, "read"):
            with open_bytes(held, name=taken.name) as file:
                return _Picture(taken.name, file.read(), taken.source)
        target = io.BytesIO()
        Image.fromarray(open_image(held).pixels).save(target, "PNG", compress_level=1)
        return _Picture(taken.name, target.getvalue(), taken.source)


def _read_or_failed(image: Any) -> _Picture | _Failed:
    try:
        return _read(image)
    except DeepfakeDetectError as error:
        return _Failed(safe_name(image), error)


def _failed_prediction(failed: _Failed, model: Mapping[str, Any], threshold: float | None) -> Prediction:
    return Prediction(
        name=failed.name,
        label="error",
        error=failed.error,
        size_hw=None,
        threshold=model["card"]["threshold"] if threshold is None else threshold,
        model=model["id"],
        seconds=0.0,
    )


def _checked(response: httpx2.Response) -> httpx2.Response:
    if response.is_success:
        return response
    raise error_from_dict(_message(response))


def _message(response: httpx2.Response) -> dict[str, str]:
    try:
        error = response.json()["error"]
        return {"type": str(error["type"]), "message": str(error["message"])}
    except (ValueError, KeyError, TypeError):
        text = f"the server answered {response.status_code} {response.reason_phrase}; is it one of deepfake-detect?"
        return {"type": "", "message": text}


def _pause(response: Any, attempt: int) -> float:
    headers: Mapping[str, str] = getattr(response, "headers", {})
    stated = headers.get("Retry-After", "")
    seconds = float(stated) if stated.isdecimal() else 0.25 * 2.0**attempt
    return min(seconds, _LONGEST_WAIT_S)


def _httpx() -> Any:
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtra("the client needs httpx2; run: pip install 'deepfake-detect[client]'") from error
    return httpx2
