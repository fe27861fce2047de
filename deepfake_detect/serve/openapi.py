"""Describe requests in the OpenAPI document: forms and JSON, with examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from deepfake_detect.serve import schema

DESCRIPTION = """Tell how likely the faces in pictures and videos are deepfakes.

```
curl -F images=@portrait.jpg http://127.0.0.1:8000/v1/predict
curl -F images=@a.jpg -F images=@b.jpg -F faces=largest http://127.0.0.1:8000/v1/predict
curl -H 'Content-Type: application/json' -d '{"images": [{"url": "https://example.com/a.jpg"}]}' \\
    http://127.0.0.1:8000/v1/predict
```

A score is the calibrated probability that a face is fake, not a proof. Every refusal has one form:
`{"error": {"type": ..., "message": ...}, "request_id": ...}`."""

_REFERENCE = "#/components/schemas/{model}"
_REFUSED = {
    400: "The body is malformed, or a value is wrong.",
    404: "There is no such model or job.",
    408: "The body took too long to arrive.",
    413: "More bytes, pixels or pictures than the server takes.",
    415: "A Content-Type that is not taken.",
    422: "The picture cannot be read; the message is the library's own.",
    503: "Too much to do, or about to stop: try again after `Retry-After` seconds.",
}
_EXAMPLES: dict[str, Any] = {
    "base64": {
        "summary": "A file in base64",
        "value": {"images": [{"base64": "iVBORw0KGgo...", "name": "portrait.png"}]},
    },
    "url": {"summary": "A public address", "value": {"images": [{"url": "https://example.com/portrait.jpg"}]}},
}


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of a route, as FastAPI documents them."""
    return {status: {"model": schema.ErrorAnswer, "description": _REFUSED[status]} for status in statuses}


def describe_body(
    whole: type[BaseModel] | None, options: type[BaseModel], *, several: bool = True, field: str = "images"
) -> dict[str, Any]:
    """Describe a body that is a form, and where ``whole`` is given JSON.

    Args:
        whole: The JSON.
        options: The fields of the form beside the files.
        several: Whether the form takes several files.
        field: The field of the files.
    """
    content: dict[str, Any] = {"multipart/form-data": {"schema": _form_schema(options, several=several, field=field)}}
    if whole is not None:
        reference = {"$ref": _REFERENCE.format(model=whole.__name__)}
        content["application/json"] = {"schema": reference, "examples": _EXAMPLES}
    return {"requestBody": {"required": True, "content": content}}


def with_schemas(app: FastAPI, *, needs_key: bool) -> None:
    """Complete the OpenAPI document of an application: the schemas of the bodies, and the key."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for model in (
                schema.PredictRequest,
                schema.ExplainRequest,
                schema.StabilityRequest,
                schema.MetadataRequest,
            ):
                described = model.model_json_schema(ref_template=_REFERENCE)
                schemas.update(described.pop("$defs", {}))
                schemas[model.__name__] = described
            if needs_key:
                _require_key(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _form_schema(options: type[BaseModel], *, several: bool, field: str) -> dict[str, Any]:
    described = options.model_json_schema(ref_template=_REFERENCE)
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "description": "The pictures."} if several else file
    fields = {name: _without_null(values) for name, values in described["properties"].items()}
    return {
        "type": "object",
        "properties": {field: files, **fields},
        "required": [field],
        "additionalProperties": False,
    }


def _without_null(values: dict[str, Any]) -> dict[str, Any]:
    """Describe an option that a form leaves out where JSON may say null."""
    kinds = [kind for kind in values.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return values
    rest = {name: value for name, value in values.items() if name not in ("anyOf", "default")}
    return {**kinds[0], **rest}


def _require_key(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    reference = {"$ref": _REFERENCE.format(model=schema.ErrorAnswer.__name__)}
    refusal = {"description": "No valid API key.", "content": {"application/json": {"schema": reference}}}
    for path, operations in document["paths"].items():
        if path in ("/healthz", "/readyz"):
            continue
        for operation in operations.values():
            operation["security"] = [{"key": []}]
            operation["responses"]["401"] = refusal
