"""Parsing of requests: a raw body, a form of files, or JSON with base64 -> images.

This module is independent of any server: the server passes the named parts of a request with their
content types, and gets an `InferenceRequest`, or a `Refusal` with the reason. `read_request` does
not raise, whatever the bytes are, and parses nothing that could grow far beyond its own size.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handler.values.prediction import Refusal

MAX_IMAGES = 32  # in one request
# A document of images has few brackets, braces and commas, and base64 contains none. A document
# with many of them could grow to a hundred times its size in memory, or exceed the recursion limit.
_MAX_MARKS = 1000
_MARKS = (b"[", b"{", b",")
_KEYS = ("image", "images", "explain")
# How data URLs, and JPEG, PNG, GIF and WebP files in base64, begin.
_BASE64 = (b"data:image/", b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR")
_YES = ("true", "1", "yes")
_NO = ("false", "0", "no", "")
# The files of a form are separated by boundaries and headers of about 200 bytes each.
_FORM_MARGIN = 1024


@dataclass(frozen=True)
class InferenceRequest:
    """A request that can be answered.

    Attributes:
        images: Encoded images in the order sent; a `Refusal` in place of an image that cannot be
            decoded from the request.
        explain: Whether the answer includes explanations.
        many: Whether the answer is a list of predictions, even of a single one.
    """

    images: tuple[bytes | Refusal, ...]
    explain: bool = False
    many: bool = False


class _Refused(Exception):
    """Ends the parsing of a request or of one of its images; carries the `Refusal`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def read_request(
    parts: Mapping[str, Any],
    content_types: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
) -> InferenceRequest | Refusal:
    """Parse one request.

    Args:
        parts: Body under the name ``body``, or the parts of a form under their own names: bytes,
            or what the server has parsed from text (str) or from JSON (dict, list and so on).
        content_types: Content types of the parts, by name; a part without one is an image.
        length: Size of the whole body in bytes, if known; it reveals parts of the same name, of
            which the server keeps only the last.

    Returns:
        The request, or the reason for refusing it.
    """
    try:
        if all(_is_empty(value) for value in parts.values()):
            raise _Refused(400, "the request has no body; send one image's bytes")
        if len(parts) == 1:
            ((name, value),) = parts.items()
            if _is_json(value, (content_types or {}).get(name, "")):
                return _read_document(_parsed(value))
        return _read_parts(parts, length)
    except _Refused as refused:
        return refused.refusal


def _read_parts(parts: Mapping[str, Any], length: int | None) -> InferenceRequest:
    """A raw body, or the files of a form."""
    files = {name: value for name, value in parts.items() if name != "explain"}
    if not files:
        raise _Refused(400, "the form has no image; send at least one file")
    if len(files) > MAX_IMAGES:
        raise _too_many(len(files))
    sizes = [len(value) for value in parts.values() if isinstance(value, bytes | bytearray | str)]
    if length is not None and length > sum(sizes) + _FORM_MARGIN * (1 + len(parts)):
        raise _Refused(
            400,
            "several parts of the form have the same name, and only the last arrived; "
            "use distinct names",
        )
    images = [_each(_of_part, value) for value in files.values()]
    return InferenceRequest(tuple(images), _read_explain(parts), many=len(images) > 1)


def _read_explain(parts: Mapping[str, Any]) -> bool:
    value = parts.get("explain", "false")
    if isinstance(value, bytes | bytearray):
        value = bytes(value[:10]).decode("ascii", errors="replace")
    word = str(value).strip().lower()
    if word not in (*_YES, *_NO):
        raise _Refused(400, "the form's part 'explain' must be true or false")
    return word in _YES


def _of_part(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        content = bytes(value)
        _refuse_text(content)
        return content
    sent = "text" if isinstance(value, str) else "JSON"
    raise _Refused(
        415,
        f"the body is {sent}; send an image, as application/octet-stream or as a file of a form",
    )


def _refuse_text(content: bytes) -> None:
    """Refuse the beginnings of JSON and of base64, with which no image file begins."""
    start = content[:64].lstrip()
    if start.startswith((b"{", b"[")):
        raise _Refused(
            415, "the body is JSON without its type; send it with Content-Type: application/json"
        )
    if start.startswith(_BASE64):
        raise _Refused(
            415, f"the body is base64, not an image; send the image's bytes, or JSON: {_EXPECTED}"
        )


def _parsed(value: Any) -> Any:
    if not isinstance(value, bytes | bytearray):
        return value
    if sum(value.count(mark) for mark in _MARKS) > _MAX_MARKS:
        raise _Refused(400, f"the JSON has more than {_MAX_MARKS} values or levels; {_EXPECTED}")
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _Refused(
            400, f"Content-Type is JSON, but the body is not valid JSON: {_line(error)}"
        ) from None


def _read_document(value: Any) -> InferenceRequest:
    """``{"image": BASE64}`` or ``{"images": [BASE64, ...]}``, each with or without ``explain``."""
    if not isinstance(value, dict):
        raise _Refused(400, f"the JSON is {_kind(value)}; {_EXPECTED}")
    for key in value:
        if key not in _KEYS:
            raise _Refused(400, f"the JSON has a key {key[:40]!r}; {_EXPECTED}")
    explain = value.get("explain", False)
    if not isinstance(explain, bool):
        raise _Refused(400, f"'explain' is {_kind(explain)}; expected true or false")
    if ("image" in value) == ("images" in value):
        raise _Refused(400, f"the JSON has both 'image' and 'images', or neither; {_EXPECTED}")
    if "image" in value:
        return InferenceRequest((_each(_of_base64, value["image"]),), explain)
    listed = value["images"]
    if not isinstance(listed, list) or not listed:
        given = "empty" if listed == [] else _kind(listed)
        raise _Refused(400, f"'images' is {given}; expected a list of base64 strings")
    if len(listed) > MAX_IMAGES:
        raise _too_many(len(listed))
    return InferenceRequest(tuple(_each(_of_base64, one) for one in listed), explain, many=True)


_EXPECTED = 'expected {"image": BASE64} or {"images": [BASE64, ...]}, optionally with "explain"'


def _each(read: Callable[[Any], bytes], value: Any) -> bytes | Refusal:
    """One image; its refusal does not affect the other images of the request."""
    try:
        return read(value)
    except _Refused as refused:
        return refused.refusal


def _of_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise _Refused(400, f"an image is {_kind(text)}; expected a string of base64")
    if text.startswith("data:"):  # the form in which browsers give a file to a script
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise _Refused(400, "the data URL of an image is not base64")
    try:
        # Mail and command-line tools break base64 into lines. Splitting there would create millions
        # of strings from hostile input.
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except ValueError as error:  # of binascii, or a UnicodeEncodeError
        reason = (
            "it has characters outside ASCII" if isinstance(error, UnicodeError) else _line(error)
        )
        raise _Refused(400, f"an image is not base64: {reason}") from None


def _too_many(count: int) -> _Refused:
    return _Refused(
        413, f"the request has {count} images; at most {MAX_IMAGES} are answered together"
    )


def _is_json(value: Any, kind: str) -> bool:
    kind = kind.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return True
    return not isinstance(value, bytes | bytearray | str)


def _is_empty(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | str) and not value


def parse_bool(value: Any) -> bool:
    """Whether the value of a header or a field is ``true``, ``1`` or ``yes``."""
    return isinstance(value, str) and value.strip().lower() in _YES


def _kind(value: Any) -> str:
    names: Sequence[tuple[type | tuple[type, ...], str]] = (
        (bool, "true or false"),
        (dict, "an object"),
        (list, "a list"),
        (str, "a string"),
        ((int, float), "a number"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
