"""The OpenAPI description of the gateway: what it says is true, and tests hold it to that."""

from __future__ import annotations

from typing import Any

import handler
from vea.web.assets import Assets
from vea.web.schemas import SCHEMAS

# Of models and versions; TorchServe's own names go further, those of our archives do not.
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"

_REASONS = {
    400: "The body is empty, or is not what its type says.",
    401: "The API key is missing or not let in.",
    403: "Another site's page caused the request.",
    404: "There is no such model, version or file.",
    408: "The body took too long to arrive.",
    413: "The body or the picture is too large.",
    415: "The body is of no kind that can be read, or no image format that is read.",
    421: "The request is for a host name that this gateway does not have.",
    422: "The image is damaged, or not all of its pixels are there.",
    500: "The gateway failed.",
    502: "The server of models cannot be reached, or its worker died on this request.",
    503: "Too busy, or not ready; the header Retry-After says when to come again.",
    504: "The model took too long.",
    507: "There is not enough memory for this image now.",
}
_BODY_ERRORS = (400, 404, 408, 413, 415, 422, 500, 502, 503, 504, 507)


def describe(assets: Assets, max_bytes: int, *, keyed: bool) -> dict[str, Any]:
    """The description.

    Args:
        assets: Files of the page.
        max_bytes: Size limit of a body.
        keyed: Whether an API key is required.
    """
    paths: dict[str, Any] = {
        "/": {"get": _file("The page to try a model.", "getPage", ["text/html"])},
        "/assets/{file}": {
            "parameters": [_one_of("file", sorted(assets.parts))],
            "get": _file("A part of the page.", "getAsset", _types(assets.parts), (404,)),
        },
        "/samples/{file}": {
            "parameters": [_one_of("file", sorted(assets.samples))],
            "get": _file("A photo to try.", "getSample", _types(assets.samples), (404,)),
        },
        "/healthz": {"get": _look("Whether this process lives.", "getHealth", "Status")},
        "/readyz": {
            "get": _look("Whether the models answer: a real prediction.", "getReady", "Status", 503)
        },
        "/models": {
            "get": _look("Which models can be asked.", "getModels", "Models", *(502, 503, 504))
        },
        "/metrics": {"get": _file("Figures for Prometheus.", "getMetrics", ["text/plain"])},
        "/openapi.json": {"get": _look("This description.", "getOpenapi", "Description")},
    }
    for kind, schema, words in (
        ("predictions", "Prediction", "Which emotions an image evokes."),
        ("explanations", "Explanation", "Which emotions an image evokes, and why."),
    ):
        name = schema.lower()
        paths[f"/{kind}/{{model}}"] = {
            "parameters": [_name("model", "vea-lite")],
            **_asks(f"{words} The model's default version.", f"{name}OfModel", schema, max_bytes),
        }
        paths[f"/{kind}/{{model}}/{{version}}"] = {
            "parameters": [_name("model", "vea-lite"), _name("version", "1.0")],
            **_asks(f"{words} One version.", f"{name}OfVersion", schema, max_bytes),
        }
    _refuse_strangers(paths, keyed=keyed)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vea",
            "version": handler.__version__,
            "description": "Which emotion a photo evokes in those who see it, and why.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _refuse_strangers(paths: dict[str, Any], *, keyed: bool) -> None:
    for path, item in paths.items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            asks = path.startswith(("/predictions", "/explanations"))
            if not keyed:
                operation["responses"] |= _errors(421, *((403,) if asks else ()))
            elif asks or path in ("/models", "/metrics"):
                operation["security"] = [{"key": []}]
                operation["responses"] |= _errors(401)


def _asks(words: str, name: str, schema: str, max_bytes: int) -> dict[str, Any]:
    # curl -T puts, and there is no difference.
    return {
        method: _ask(words, f"{method}{name[0].upper()}{name[1:]}", schema, max_bytes)
        for method in ("post", "put")
    }


def _ask(words: str, name: str, schema: str, max_bytes: int) -> dict[str, Any]:
    wish = {
        "name": "X-Explain",
        "in": "header",
        "description": "Say `true` to be told why, too.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
    image = {"type": "string", "format": "binary", "minLength": 1}
    return {
        "summary": words,
        "description": f"The body is at most {max_bytes} bytes long.",
        "operationId": name,
        **({"parameters": [wish]} if schema == "Prediction" else {}),
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": image},
                "image/*": {"schema": image},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {"image": image},
                        "additionalProperties": False,
                    }
                },
                "application/json": {"schema": {"$ref": "#/components/schemas/Request"}},
            },
        },
        "responses": {
            "200": _json("The answer.", f"{schema}Answer"),
            **_errors(*_BODY_ERRORS),
        },
    }


def _look(words: str, name: str, schema: str, *codes: int) -> dict[str, Any]:
    return {
        "summary": words,
        "operationId": name,
        "responses": {"200": _json(words, schema), **_errors(*codes)},
    }


def _file(words: str, name: str, types: list[str], codes: tuple[int, ...] = ()) -> dict[str, Any]:
    content = {kind: {"schema": {"type": "string"}} for kind in types}
    return {
        "summary": words,
        "operationId": name,
        "responses": {"200": {"description": words, "content": content}, **_errors(*codes)},
    }


def _types(files: dict[str, Any]) -> list[str]:
    return sorted({asset.media_type.split(";")[0] for asset in files.values()})


def _json(words: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": words, "content": {"application/json": {"schema": reference}}}


def _errors(*codes: int) -> dict[str, Any]:
    errors = {str(code): _json(_REASONS[code], "Error") for code in codes}
    if "503" in errors:
        errors["503"]["headers"] = {
            "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
        }
    return errors


def _name(name: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{NAME}$"},
        "example": example,
    }


def _one_of(name: str, values: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": values},
    }
