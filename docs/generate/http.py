"""The page of the HTTP interface, from the gateway's OpenAPI description."""

from __future__ import annotations

import json
from typing import Any

from docs.generate.program import openapi

_ABOUT = """# HTTP interface

The paths of [the gateway](../how-to/gateway.md), as its own description (`GET /openapi.json`) gives
them; [openapi.json](openapi.json) is that description. TorchServe, as
[`vea serve`](../how-to/serve.md) starts it, answers `/predictions/...` and `/explanations/...` in
the same way, with TorchServe's own key in place of an API key.
"""
_METHODS = ("get", "post", "put")


def description() -> str:
    """The OpenAPI document as JSON."""
    return json.dumps(openapi(), indent=1, sort_keys=True) + "\n"


def page() -> str:
    """The page."""
    document = openapi()
    parts = [_ABOUT, "## Paths\n"]
    for path, item in document["paths"].items():
        methods = [method for method in _METHODS if method in item]
        names = " or ".join(f"`{method.upper()} {path}`" for method in methods)
        parts.append(f"### {names}\n\n{_operation(item, item[methods[0]])}")
    parts.append(f"## Errors\n\nEvery error is an [Error](#error) document.\n\n{_errors(document)}")
    parts.append("## Documents\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(f"### {name}\n\n{_schema(schema)}\n")
    return "\n".join(parts)


def _operation(item: dict[str, Any], operation: dict[str, Any]) -> str:
    lines = [operation["summary"]]
    if operation.get("description"):
        lines[0] += f" {operation['description']}"
    if operation.get("security"):
        lines[0] += " Needs an API key (`Authorization: Bearer KEY`) where the gateway has keys."
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    if parameters:
        lines += ["", "| parameter | in | values | meaning |", "|---|---|---|---|"]
        lines += [_parameter(one) for one in parameters]
    if body := operation.get("requestBody"):
        lines += ["", "| body | |", "|---|---|"]
        lines += [
            f"| `{kind}` | {_inline(one['schema'])} |" for kind, one in body["content"].items()
        ]
    answer = operation["responses"]["200"]
    kinds = [
        _inline(one["schema"]) if "$ref" in one["schema"] else f"`{kind}`"
        for kind, one in answer["content"].items()
    ]
    lines += ["", f"Answer: {', '.join(kinds)}."]
    if errors := sorted(status for status in operation["responses"] if status != "200"):
        lines += ["", f"[Errors](#errors): {', '.join(errors)}."]
    return "\n".join(lines) + "\n"


def _errors(document: dict[str, Any]) -> str:
    """A table of all statuses but 200; a status means the same on every path."""
    meanings = {
        status: answer["description"]
        for item in document["paths"].values()
        for method in _METHODS
        if method in item
        for status, answer in item[method]["responses"].items()
        if status != "200"
    }
    rows = [f"| {status} | {meaning} |\n" for status, meaning in sorted(meanings.items())]
    return "| status | meaning |\n|---|---|\n" + "".join(rows)


def _parameter(one: dict[str, Any]) -> str:
    schema = one["schema"]
    values = ", ".join(f"`{value}`" for value in schema.get("enum", ()))
    values = values or f"`{schema['pattern']}`".replace("|", "\\|")
    meaning = one.get("description") or (
        f"for example `{one['example']}`" if "example" in one else ""
    )
    return f"| `{one['name']}` | {one['in']} | {values} | {meaning} |"


def _schema(schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return _inline(schema)
    lines = ["| field | type | required |", "|---|---|---|"]
    lines += _fields(schema, "")
    return "\n".join(lines)


def _fields(schema: dict[str, Any], prefix: str) -> list[str]:
    """A line for each field, those of nested objects and of lists of objects below them."""
    lines = []
    for name, field in schema["properties"].items():
        required = "yes" if name in schema.get("required", ()) else "no"
        lines.append(f"| `{prefix}{name}` | {_inline(field)} | {required} |")
        inside = field.get("items", field)
        if "properties" in inside:
            deeper = f"{prefix}{name}[]." if "items" in field else f"{prefix}{name}."
            lines += _fields(inside, deeper)
    return lines


def _inline(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_inline(one) for one in schema[several])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = schema.get("type", "any")
    if words == "array":
        items = _inline(schema["items"])
        words = (
            f"list of {items}s" if items in ("number", "object", "string") else f"list of {items}"
        )
    elif words == "object" and "properties" in schema:
        words = "object with " + ", ".join(f"`{name}`" for name in schema["properties"])
    elif "contentEncoding" in schema:
        words = f"{schema['contentEncoding']} text"
    elif schema.get("format") == "binary":
        words = "the bytes of an image"
    if "description" in schema:
        words += f" ({schema['description'].rstrip('.')})"
    return words
