"""What a client sent -> images: the raw body, a form of files, or JSON with base64.

Knows what a request may look like and nothing of any server: a server hands over the named parts
of a request with their content types, and gets an `Asked` or a `Refusal` that says what was wrong.
Nothing here raises, whatever the bytes are, and nothing is parsed that could grow far beyond its
own size.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handler.values.prediction import Refusal

MAX_IMAGES = 32  # in one request
# A document of images has few brackets, braces and commas, and base64 has none of them. One that
# has more would become a hundred times its size when it is parsed, or is deep enough to overflow.
_MOST_MARKS = 1000
_MARKS = (b"[", b"{", b",")
_KEYS = ("image", "images", "explain")
_YES = ("true", "1", "yes")
_NO = ("false", "0", "no", "")
# Between the files of a form stand boundaries and headers, some 200 bytes each.
_FORM_MARGIN = 1024


@dataclass(frozen=True)
class Asked:
    """One request that can be answered.

    Attributes:
        images: encoded images in the order sent; a `Refusal` in the place of one that cannot be
            read out of the request.
        explain: the request itself asks for reasons.
        many: the answer is a list of predictions, even if it is a list of one.
    """

    images: tuple[bytes | Refusal, ...]
    explain: bool = False
    many: bool = False


class _RequestRefused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def read_request(
    parts: Mapping[str, Any],
    content_types: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
) -> Asked | Refusal:
    """Read one request.

    Args:
        parts: the body under the name ``body``, or the parts of a form under their own names:
            bytes, or what a server has made of text (str) or of JSON (dict, list and so on).
        content_types: of parts, by name; without one, a part is an image.
        length: bytes of the whole body, if known: it tells whether parts of the same name were
            lost on the way.

    Returns:
        The images, or why there are none.
    """
    try:
        if all(_is_empty(value) for value in parts.values()):
            raise _RequestRefused(400, "the request has no body; send one image's bytes")
        if len(parts) == 1:
            ((name, value),) = parts.items()
            if _is_json(value, (content_types or {}).get(name, "")):
                return _read_document(_parsed(value))
        return _read_parts(parts, length)
    except _RequestRefused as refused:
        return refused.refusal


def _read_parts(parts: Mapping[str, Any], length: int | None) -> Asked:
    """A raw body, or the files of a form."""
    files = {name: value for name, value in parts.items() if name != "explain"}
    if not files:
        raise _RequestRefused(400, "the form has no image; send at least one file")
    if len(files) > MAX_IMAGES:
        raise _too_many(len(files))
    sizes = [len(value) for value in parts.values() if isinstance(value, bytes | bytearray | str)]
    if length is not None and length > sum(sizes) + _FORM_MARGIN * (1 + len(parts)):
        raise _RequestRefused(
            400, "parts of the form share one name, and all but the last are lost: name each anew"
        )
    images = [_each(_of_part, value) for value in files.values()]
    return Asked(tuple(images), _explain_of_form(parts), many=len(images) > 1)


def _explain_of_form(parts: Mapping[str, Any]) -> bool:
    wish = parts.get("explain", "false")
    if isinstance(wish, bytes | bytearray):
        wish = bytes(wish[:10]).decode("ascii", errors="replace")
    word = str(wish).strip().lower()
    if word not in (*_YES, *_NO):
        raise _RequestRefused(400, "the form's part 'explain' must be true or false")
    return word in _YES


def _of_part(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    sent = "text" if isinstance(value, str) else "JSON"
    raise _RequestRefused(
        415, f"the body is {sent}; send an image, as application/octet-stream or as a form's file"
    )


def _parsed(value: Any) -> Any:
    if not isinstance(value, bytes | bytearray):
        return value
    if sum(value.count(mark) for mark in _MARKS) > _MOST_MARKS:
        raise _RequestRefused(
            400, f"the JSON has more than {_MOST_MARKS} values or levels; {_EXPECTED}"
        )
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _RequestRefused(400, f"the body is called JSON and is none: {_line(error)}") from None


def _read_document(value: Any) -> Asked:
    """``{"image": BASE64}`` or ``{"images": [BASE64, ...]}``, each with or without ``explain``."""
    if not isinstance(value, dict):
        raise _RequestRefused(400, f"the JSON is {_kind(value)}; {_EXPECTED}")
    for key in value:
        if key not in _KEYS:
            raise _RequestRefused(400, f"the JSON has a key {key[:40]!r}; {_EXPECTED}")
    explain = value.get("explain", False)
    if not isinstance(explain, bool):
        raise _RequestRefused(400, f"'explain' is {_kind(explain)}; expected true or false")
    if ("image" in value) == ("images" in value):
        raise _RequestRefused(
            400, f"the JSON has both 'image' and 'images', or neither; {_EXPECTED}"
        )
    if "image" in value:
        return Asked((_each(_of_base64, value["image"]),), explain)
    listed = value["images"]
    if not isinstance(listed, list) or not listed:
        given = "empty" if listed == [] else _kind(listed)
        raise _RequestRefused(400, f"'images' is {given}; expected a list of base64 strings")
    if len(listed) > MAX_IMAGES:
        raise _too_many(len(listed))
    return Asked(tuple(_each(_of_base64, one) for one in listed), explain, many=True)


_EXPECTED = 'expected {"image": BASE64} or {"images": [BASE64, ...]}, with "explain" if you like'


def _each(read: Callable[[Any], bytes], value: Any) -> bytes | Refusal:
    """One image of perhaps many: what is wrong with it is its own affair."""
    try:
        return read(value)
    except _RequestRefused as refused:
        return refused.refusal


def _of_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise _RequestRefused(400, f"an image is {_kind(text)}; expected a string of base64")
    if text.startswith("data:"):  # as browsers write a file that was read for them
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise _RequestRefused(400, "an image's data URL is not of base64")
    try:
        # Line breaks are part of base64 as mail and command lines know it. Splitting the text there
        # would make millions of pieces of a hostile one.
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except ValueError as error:  # binascii's own and that of letters beyond ASCII, too
        reason = "it has letters beyond ASCII" if isinstance(error, UnicodeError) else _line(error)
        raise _RequestRefused(400, f"an image is not base64: {reason}") from None


def _too_many(count: int) -> _RequestRefused:
    return _RequestRefused(
        413, f"the request has {count} images; at most {MAX_IMAGES} are answered together"
    )


def _is_json(value: Any, kind: str) -> bool:
    kind = kind.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return True
    return not isinstance(value, bytes | bytearray | str)


def _is_empty(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | str) and not value


def says_yes(value: Any) -> bool:
    """Whether a header's or a field's value is a yes: ``true``, ``1`` or ``yes``."""
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
