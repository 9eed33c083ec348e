"""What a client may send: images come out of it as they went in, and everything else is refused."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.serving.requests import MAX_IMAGES, InferenceRequest, read_request
from handler.values.prediction import Refusal

JSON = {"body": "application/json"}


def read_json(document: object) -> InferenceRequest | Refusal:
    return read_request({"body": bytearray(json.dumps(document).encode())}, JSON)


def in_base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def test_a_raw_body_is_the_image_whatever_it_is_called() -> None:
    for kind in ("application/octet-stream", "image/jpeg", "text/plain"):
        asked = read_request({"body": bytearray(b"pixels")}, {"body": kind})
        assert asked == InferenceRequest((b"pixels",))


@given(image=st.binary(min_size=1, max_size=300), explain=st.booleans())
def test_base64_gives_the_image_back(image: bytes, explain: bool) -> None:
    asked = read_json({"image": in_base64(image), "explain": explain})
    assert asked == InferenceRequest((image,), explain)


@given(images=st.lists(st.binary(max_size=50), min_size=1, max_size=MAX_IMAGES))
def test_many_images_keep_their_order(images: list[bytes]) -> None:
    assert read_json({"images": [in_base64(one) for one in images]}) == InferenceRequest(
        tuple(images), many=True
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"image": "aGVsbG8="}', "send it with Content-Type: application/json"),
        (b' \n[{"image": "aGVsbG8="}]', "send it with Content-Type: application/json"),
        (b"/9j/4AAQSkZJRgABAQ", "the body is base64"),
        (b"data:image/png;base64,iVBORw0KGgo", "the body is base64"),
    ],
)
def test_text_without_its_type_is_called_what_it_is(body: bytes, reason: str) -> None:
    for kinds in ({}, {"body": "application/octet-stream"}, {"body": "image/jpeg"}):
        asked = read_request({"body": bytearray(body)}, kinds)
        assert isinstance(asked, InferenceRequest)
        (refusal,) = asked.images
        assert isinstance(refusal, Refusal)
        assert (refusal.code, reason in refusal.reason) == (415, True)


def test_json_that_the_server_has_parsed_is_read_as_well() -> None:
    assert read_request({"body": {"image": "aGVsbG8="}}) == InferenceRequest((b"hello",))


def test_base64_may_have_line_breaks_or_be_a_data_url() -> None:
    for text in ("aGVs\r\nbG8=\n", "data:image/png;base64,aGVsbG8="):
        assert read_json({"image": text}) == InferenceRequest((b"hello",))


@pytest.mark.parametrize(
    "text", ["%%%", "aGVsbG8", "aGVsbG8_", "grüße", "data:image/png,abc", "data:;base64", 5, None]
)
def test_what_is_no_base64_is_the_affair_of_its_image_alone(text: object) -> None:
    asked = read_json({"images": ["aGVsbG8=", text]})
    assert isinstance(asked, InferenceRequest)
    assert asked.images[0] == b"hello"
    assert isinstance(asked.images[1], Refusal)
    assert asked.images[1].code == 400


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([1, 2], "a list"),
        ("text", "a string"),
        (None, "null"),
        ({}, "neither"),
        ({"image": "aA==", "images": ["aA=="]}, "both"),
        ({"image": "aA==", "explian": True}, "explian"),
        ({"image": "aA==", "explain": "yes"}, "a string"),
        ({"images": []}, "empty"),
        ({"images": "aA=="}, "a string"),
    ],
)
def test_another_document_is_refused_by_name(document: object, named: str) -> None:
    refusal = read_json(document)
    assert isinstance(refusal, Refusal)
    assert refusal.code == 400
    assert named in refusal.reason


def test_too_many_images_are_refused_together() -> None:
    refusal = read_json({"images": ["aA=="] * (MAX_IMAGES + 1)})
    assert isinstance(refusal, Refusal)
    assert refusal.code == 413


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": ',
        b"\xff\xfe\x00",
        b"[" * 900,
        b"[" * 1_000_000,
        b"[" + b"{}," * 1_000_000 + b"{}]",
        b'{"image": ' + b"9" * 100_000 + b"}",
        b"NaN",
    ],
)
def test_hostile_json_is_refused_without_being_parsed_to_its_end(body: bytes) -> None:
    refusal = read_request({"body": bytearray(body)}, {"body": "application/json; charset=utf-8"})
    assert isinstance(refusal, Refusal)
    assert refusal.code == 400
    assert len(refusal.reason) < 500


@given(body=st.binary(max_size=200))
def test_any_bytes_called_json_are_read_or_refused(body: bytes) -> None:
    assert isinstance(read_request({"body": bytearray(body)}, JSON), InferenceRequest | Refusal)


def test_rows_without_content_are_refused() -> None:
    for row in ({}, {"body": b""}, {"body": ""}, {"one": b"", "two": b""}):
        refusal = read_request(row)
        assert isinstance(refusal, Refusal)
        assert refusal.code == 400


def test_text_that_the_server_has_read_is_refused() -> None:
    asked = read_request({"body": "a sunset"}, {"body": "text/plain"})
    assert isinstance(asked, InferenceRequest)
    (refusal,) = asked.images
    assert isinstance(refusal, Refusal)
    assert refusal.code == 415


def test_the_files_of_a_form_are_its_images_and_explain_is_none() -> None:
    parts = {"b": bytearray(b"1"), "explain": bytearray(b"true"), "a": bytearray(b"2")}
    assert read_request(parts) == InferenceRequest((b"1", b"2"), explain=True, many=True)
    assert read_request({"a": b"1", "explain": b"no"}) == InferenceRequest((b"1",))
    assert isinstance(read_request({"a": b"1", "explain": b"perhaps"}), Refusal)
    assert isinstance(read_request({"explain": b"true"}), Refusal)


def test_a_form_that_lost_a_file_on_the_way_is_refused() -> None:
    parts = {"photo": b"x" * 5000}
    assert isinstance(read_request(parts, length=5300), InferenceRequest)
    assert isinstance(read_request(parts, length=10300), Refusal)
