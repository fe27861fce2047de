"""The web application: routes, their documentation, and how requests become calls of the library."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from deepfake_detect._version import __version__
from deepfake_detect.detector import Detector
from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, ImageUnreadable
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.serve import schema
from deepfake_detect.serve.gate import ASSETS, Gate, error_content
from deepfake_detect.serve.openapi import DESCRIPTION, describe_body, refused, with_schemas
from deepfake_detect.serve.refusals import Refusal, busy, refusal_of
from deepfake_detect.serve.service import Hold, Sent, Service, failed_prediction, name_of
from deepfake_detect.serve.settings import ServeSettings
from deepfake_detect.serve.uploads import Form, Upload, boundary_of, decode_base64, parse_json, read_chunks
from deepfake_detect.serve.videos import VideoWork

Answer = TypeVar("Answer")
Options = TypeVar("Options", bound=BaseModel)


def create_app(settings: ServeSettings | None = None, *, detectors: dict[str, Detector] | None = None) -> ASGIApp:
    """Make the web application of the server, for any ASGI server.

    Args:
        settings: None takes the defaults.
        detectors: Name to detector, the default first; None loads those of the settings when the application starts.

    Returns:
        The application. Its lifespan loads the models, and finishes what was accepted.

    Raises:
        MissingExtra: The extra ``[server]`` is not installed.
    """
    settings = settings or ServeSettings()
    service = Service(settings, detectors=detectors)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        try:
            yield
        finally:
            service.stopping = True
            await run_in_threadpool(service.stop)

    app = FastAPI(
        title="deepfake-detect",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=[{"name": "pictures"}, {"name": "videos"}, {"name": "server"}],
    )
    app.state.service = service
    _add_pictures(app, service)
    _add_videos(app, service)
    _add_server(app, service)
    _add_docs(app)
    for kind in (HTTPException, Refusal, DeepfakeDetectError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _answer_error)
    with_schemas(app, needs_key=bool(settings.keys))
    return Gate(
        app, keys=settings.keys, origins=settings.origins, hosts=settings.allowed_hosts, metrics=service.metrics
    )


def _add_pictures(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/predict",
        tags=["pictures"],
        summary="Score pictures",
        response_model=None,
        responses={200: {"model": schema.PredictAnswer}, **refused(400, 404, 408, 413, 415, 422, 503)},
        openapi_extra=describe_body(schema.PredictRequest, schema.PredictOptions),
    )
    async def predict(request: Request) -> Response:
        """Score one picture or several, each answered in its place.

        A single picture that cannot be read is refused with 422 (413 where it is too large). Among several it has the
        label `error` and its `error` says why; the others are scored all the same.
        """
        with service.hold() as hold:
            pictures, options = await _read(request, service, hold, schema.PredictRequest, schema.PredictOptions)
            _, detector = service.detector(options.model)
            chosen = options.model_dump(include={"model", "faces", "threshold", "content"})
            outcomes = await _answer_in_time(request, service, service.predict(pictures, **chosen))
            if len(outcomes) == 1 and isinstance(outcomes[0], Exception):
                raise refusal_of(outcomes[0])
            answers = [
                replace(outcome, name=picture.name).to_dict()
                if isinstance(outcome, Prediction)
                else failed_prediction(picture, outcome, detector=detector, threshold=options.threshold)
                for picture, outcome in zip(pictures, outcomes, strict=True)
            ]
            return JSONResponse({"predictions": answers})

    @app.post(
        "/v1/explain",
        tags=["pictures"],
        summary="Show where the score of a picture comes from",
        response_model=None,
        responses={
            200: {"model": schema.ExplanationAnswer, "content": {"image/png": {}}},
            **refused(400, 404, 408, 413, 415, 422, 503),
        },
        openapi_extra=describe_body(schema.ExplainRequest, schema.ExplainOptions, several=False),
    )
    async def explain(request: Request) -> Response:
        """Compute a heat map, and check how far it can be trusted; the drawing where `format` is `png`."""
        with service.hold() as hold:
            (picture,), options = await _read(
                request, service, hold, schema.ExplainRequest, schema.ExplainOptions, most=1
            )
            _, detector = service.detector(options.model)
            work = service.run_heavy(partial(_explain, service, picture, detector, options))
            return await _answer_in_time(request, service, work)

    @app.post(
        "/v1/stability",
        tags=["pictures"],
        summary="Measure whether a verdict survives compression, scaling and cropping",
        response_model=None,
        responses={200: {"model": schema.StabilityAnswer}, **refused(400, 404, 408, 413, 415, 422, 503)},
        openapi_extra=describe_body(schema.StabilityRequest, schema.Options, several=False),
    )
    async def stability(request: Request) -> Response:
        """Score a picture as it is and after JPEG, WebP, a smaller size, a crop and a screenshot."""
        with service.hold() as hold:
            (picture,), options = await _read(request, service, hold, schema.StabilityRequest, schema.Options, most=1)
            _, detector = service.detector(options.model)
            work = service.run_heavy(partial(_measure_stability, service, picture, detector, options))
            return await _answer_in_time(request, service, work)

    @app.post(
        "/v1/metadata",
        tags=["pictures"],
        summary="Read what picture files say of their own origin",
        response_model=None,
        responses={200: {"model": schema.MetadataAnswer}, **refused(400, 404, 408, 413, 415, 422, 503)},
        openapi_extra=describe_body(schema.MetadataRequest, schema.MetadataOptions),
    )
    async def metadata(request: Request) -> Response:
        """List traces of cameras, editors, generators and signed manifests in one file or several."""
        with service.hold() as hold:
            pictures, options = await _read(request, service, hold, schema.MetadataRequest, schema.MetadataOptions)
            work = asyncio.gather(*(run_in_threadpool(_inspect, picture, options) for picture in pictures))
            outcomes: list[dict[str, Any] | Refusal] = await _answer_in_time(request, service, work)
            if len(outcomes) == 1 and isinstance(outcomes[0], Refusal):
                raise outcomes[0]
            return JSONResponse({"metadata": [_entry(p, o) for p, o in zip(pictures, outcomes, strict=True)]})


def _add_videos(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/video",
        tags=["videos"],
        summary="Score a video in the background",
        status_code=202,
        response_model=None,
        responses={202: {"model": schema.VideoJob}, **refused(400, 404, 408, 413, 415, 422, 503)},
        openapi_extra=describe_body(None, schema.VideoOptions, several=False, field="video"),
    )
    async def start_video(request: Request) -> Response:
        """Take a video and answer with a job; ask for it until its status is `done` or `failed`."""
        service.refuse_if_busy()
        kind = request.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/form-data"):
            raise Refusal(415, "UnsupportedMediaType", f"Content-Type is {kind[:60]!r}, expected multipart/form-data")
        limits = service.limits
        form = Form(boundary_of(kind), max_files=1, max_bytes=limits.video_bytes, on_disk=True)
        try:
            await _fill(form, request, service, max_bytes=limits.video_bytes + 2**16, hold=lambda count: None)
            options = _validated(schema.VideoOptions, _typed(schema.VideoOptions, form.fields))
            upload = _only_file(form, limits.video_bytes)
            _, detector = service.detector(options.model)
            if upload.file is None:
                raise RuntimeError("the video was not written")
            chosen = options.model_dump(include={"max_frames", "every_s", "faces", "threshold"})
            work = VideoWork(file=upload.file, name=upload.name, detector=detector, options=chosen)
            job = service.videos.start(work)
        except BaseException:
            form.close()
            raise
        return JSONResponse(job, status_code=202, headers={"Location": f"/v1/video/{job['id']}"})

    @app.get(
        "/v1/video/{job_id}",
        tags=["videos"],
        summary="Ask for the state of a video",
        response_model=None,
        responses={200: {"model": schema.VideoJob}, **refused(404)},
    )
    async def video_status(job_id: str) -> Response:
        """Return the job with its progress, and the result once it is done."""
        return JSONResponse(await run_in_threadpool(service.videos.status, job_id))

    @app.delete(
        "/v1/video/{job_id}",
        tags=["videos"],
        summary="Delete a video job",
        status_code=204,
        response_model=None,
        responses=refused(404),
    )
    async def forget_video(job_id: str) -> Response:
        """Delete the job and its result; one that is running ends at the next frame."""
        await run_in_threadpool(service.videos.forget, job_id)
        return Response(status_code=204)


def _add_server(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", tags=["server"], summary="List the models", response_model=schema.ModelsAnswer)
    async def models() -> Response:
        """Return the models with their cards: training data, calibration, metrics and limits."""
        first = next(iter(service.detectors), None)
        entries = [
            {"name": name, "id": detector.card.id, "default": name == first, "card": detector.card.to_dict()}
            for name, detector in service.detectors.items()
        ]
        return JSONResponse({"models": entries, "version": __version__})

    @app.get("/healthz", tags=["server"], summary="Is the process alive?", response_model=schema.Health)
    async def healthz() -> Response:
        """Answer as long as the process does."""
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        tags=["server"],
        summary="Does it take requests?",
        response_model=schema.Health,
        responses=refused(503),
    )
    async def readyz() -> Response:
        """Answer 200 where the models are loaded and the queue has room, else 503."""
        service.refuse_if_busy()
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics",
        tags=["server"],
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Return requests, pictures, seconds by stage, the queue, and verdicts by label."""
        return Response(service.metrics.render(), media_type=service.metrics.content_type)


def _add_docs(app: FastAPI) -> None:
    """Serve the page of documentation with files of this machine: nothing is loaded from elsewhere."""
    import fastapi_offline  # brings the files of Swagger UI

    folder = Path(fastapi_offline.__file__).parent / "static"
    files = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon.png": "image/png"}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="deepfake-detect",
            swagger_js_url=f"{ASSETS}swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}favicon.png",
        )

    @app.get(ASSETS + "{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return FileResponse(folder / name, media_type=files[name])


async def _read(
    request: Request,
    service: Service,
    hold: Hold,
    whole: type[BaseModel],
    options: type[Options],
    *,
    most: int | None = None,
) -> tuple[list[Sent], Options]:
    """Read the pictures and options of a request, as a form or as JSON, and take places in the queue for them."""
    service.refuse_if_busy()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    start = asyncio.get_running_loop().time()
    if kind == "multipart/form-data":
        pictures, chosen = await _read_form(request, service, hold, options, most or service.limits.pictures)
    elif kind == "application/json":
        pictures, chosen = await _read_json(request, service, hold, whole, options)
    else:
        raise Refusal(
            415,
            "UnsupportedMediaType",
            f"Content-Type is {kind[:60]!r}, expected multipart/form-data or application/json",
        )
    service.metrics.observe("upload", asyncio.get_running_loop().time() - start)
    request.state.facts["pictures"] = len(pictures)
    request.state.facts["bytes"] = hold.held_bytes
    if len(pictures) > service.limits.pictures:
        raise Refusal(413, "TooLarge", f"{len(pictures)} pictures, at most {service.limits.pictures} in a request")
    hold.add_pictures(len(pictures))
    if any(picture.url for picture in pictures):
        start = asyncio.get_running_loop().time()
        await _answer_in_time(request, service, service.fetch(pictures, hold))
        service.metrics.observe("fetch", asyncio.get_running_loop().time() - start)
    return pictures, chosen


async def _read_form(
    request: Request, service: Service, hold: Hold, options: type[Options], most: int
) -> tuple[list[Sent], Options]:
    limits = service.limits
    boundary = boundary_of(request.headers["content-type"])
    form = Form(boundary, max_files=most, max_bytes=limits.picture_bytes)
    await _fill(form, request, service, max_bytes=limits.request_bytes, hold=hold.add_bytes)
    chosen = _validated(options, _typed(options, form.fields))
    if not form.files:
        raise Refusal(400, "InvalidOption", "no picture in the form; expected files in the field images")
    return [_sent(upload, limits.picture_bytes) for upload in form.files], chosen


async def _read_json(
    request: Request, service: Service, hold: Hold, whole: type[BaseModel], options: type[Options]
) -> tuple[list[Sent], Options]:
    body = bytearray()
    async with _upload_time(request, service):
        async for chunk in read_chunks(request, max_bytes=service.limits.request_bytes, hold=hold.add_bytes):
            body += chunk
    return await run_in_threadpool(_parse_pictures, bytes(body), whole, options, service.limits.picture_bytes)


def _parse_pictures(
    body: bytes, whole: type[BaseModel], options: type[Options], max_bytes: int
) -> tuple[list[Sent], Options]:
    values: Any = _validated(whole, parse_json(body), strict=True)
    pictures = [_sent_as_json(entry, max_bytes) for entry in values.images]
    return pictures, options.model_validate(values.model_dump(exclude={"images"}))


def _sent_as_json(entry: schema.PictureFile | schema.PictureAddress, max_bytes: int) -> Sent:
    if isinstance(entry, schema.PictureAddress):
        return Sent(entry.name or name_of(entry.url), url=entry.url)
    name = entry.name or "<base64>"
    try:
        content = decode_base64(entry.base64)
    except ValueError as error:
        return Sent(name, error=ImageUnreadable(f"{name}: {error}"))
    return Sent(name, content, error=_too_large(name, max_bytes) if len(content) > max_bytes else None)


def _sent(upload: Upload, max_bytes: int) -> Sent:
    name = upload.name or "<upload>"
    error = _too_large(name, max_bytes) if upload.is_too_large else None
    return Sent(name, bytes(upload.content), error=error)


def _too_large(name: str, max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"{name}: more than {max_bytes:,} bytes, the most that this server takes for a picture")


def _only_file(form: Form, max_bytes: int) -> Upload:
    if not form.files:
        raise Refusal(400, "InvalidOption", "no video in the form; expected a file in the field video")
    (upload,) = form.files
    if upload.is_too_large:
        raise Refusal(413, "TooLarge", f"a video of more than {max_bytes:,} bytes; send a part of it")
    return upload


async def _fill(form: Form, request: Request, service: Service, *, max_bytes: int, hold: Callable[[int], None]) -> None:
    async with _upload_time(request, service):
        async for chunk in read_chunks(request, max_bytes=max_bytes, hold=hold):
            form.feed(chunk)
    form.finish()


@asynccontextmanager
async def _upload_time(request: Request, service: Service) -> AsyncIterator[None]:
    seconds = service.limits.upload_seconds
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Refusal(
            408, "TimedOut", f"the body was not there within {seconds:g} s; send it faster", {"Connection": "close"}
        ) from None


async def _answer_in_time(request: Request, service: Service, work: Awaitable[Answer]) -> Answer:
    """Wait for work, not longer than an answer may take, and not for a client that is gone: then it is dropped."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=service.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise busy(
            "TimedOut", f"not answered within {service.limits.seconds:g} s; try again later, with fewer pictures"
        )
    finally:
        for left in (task, gone):
            left.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _typed(model: type[BaseModel], texts: dict[str, str]) -> dict[str, Any]:
    """Read true and false in the fields of a form that say so; numbers are read by pydantic."""
    flags = {name for name, field in model.model_fields.items() if field.annotation is bool}
    words = {"true": True, "false": False}
    return {name: words.get(text, text) if name in flags else text for name, text in texts.items()}


def _validated(model: type[Options], values: Any, *, strict: bool = False) -> Options:
    try:
        return model.model_validate(values, strict=strict or None)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the request"
        raise Refusal(400, "InvalidOption", f"{place[:100]}: {first['msg']}") from None


def _explain(service: Service, picture: Sent, detector: Detector, options: schema.ExplainOptions) -> Response:
    explanation = detector.explain(
        service.open(picture), **options.model_dump(include={"method", "faces", "faithfulness", "target", "threshold"})
    )
    explanation = replace(explanation, prediction=replace(explanation.prediction, name=picture.name))
    if options.format == "json":
        return JSONResponse(explanation.to_dict())
    file = io.BytesIO()
    explanation.plot().save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png")


def _measure_stability(service: Service, picture: Sent, detector: Detector, options: schema.Options) -> Response:
    result = detector.stability(service.open(picture), faces=options.faces, threshold=options.threshold)
    return JSONResponse(replace(result, name=picture.name).to_dict())


def _inspect(picture: Sent, options: schema.MetadataOptions) -> dict[str, Any] | Refusal:
    if picture.error is not None:
        return refusal_of(picture.error)
    file = io.BytesIO(picture.content)
    file.name = picture.name
    try:
        return inspect_metadata(file, show_location=options.show_location).to_dict()
    except DeepfakeDetectError as error:
        return refusal_of(error)


def _entry(picture: Sent, outcome: dict[str, Any] | Refusal) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        return {"name": picture.name, "error": {"type": outcome.kind, "message": outcome.message}}
    return outcome


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer every error in the same form."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # nobody reads it, but the log
    refusal = refusal_of(error)
    if isinstance(error, HTTPException):  # of the router: no such path, or no such method
        kind = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "BadRequest")
        headers = {"Allow": _methods(request)} if error.status_code == 405 else error.headers
        refusal = Refusal(error.status_code, kind, f"{error.detail}; GET /docs lists what there is", headers)
    content = error_content(refusal, request.state.request_id)
    return JSONResponse(content, status_code=refusal.status, headers=refusal.headers)


def _methods(request: Request) -> str:
    """List the methods that a path has; the router itself names those of its first route only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in matching for method in route.methods or ()}))
