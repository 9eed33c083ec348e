"""The shipped model behind one real TorchServe: what its clients can rely on."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from torchserve_server import (
    REPOSITORY,
    all_at_once,
    ask,
    drawn_images,
    form,
    json_request,
    real_photos,
    todays_archive,
    wait_until,
)

from handler.predictor import Predictor
from handler.values.limits import ImageLimits
from handler.values.prediction import Prediction
from jobs.run.driver import score_list
from jobs.scoring.sources import OnDevice
from jobs.values.job import ScoreJob
from vea.serving.server import TorchServe

pytestmark = pytest.mark.integration

SAME = 1e-4  # the order of additions depends on the batch
REFUSED = range(400, 500)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return todays_archive(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Iterator[TorchServe]:
    state = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        # The worst case for "the archive's own code runs": the checkout stands on the path.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), "."]))
        with TorchServe.running(archive, state) as running:
            yield running


@pytest.fixture(scope="module")
def predictor(archive: Path) -> Predictor:
    return Predictor.load(archive)


@pytest.fixture(scope="module", params=["photos", "drawn"])
def images(request: pytest.FixtureRequest) -> list[bytes]:
    return real_photos(32) if request.param == "photos" else drawn_images(32)


@pytest.fixture(scope="module")
def image() -> bytes:
    return drawn_images(1)[0]


def assert_same(answer: dict[str, Any], expected: Any) -> None:
    assert isinstance(expected, Prediction)
    assert list(answer["probabilities"]) == list(expected.probabilities)
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=SAME)
    assert answer["emotion"] in answer["probabilities"]
    assert (answer["image_size"]["width"], answer["image_size"]["height"]) == (
        expected.width,
        expected.height,
    )
    assert answer["face"]["count"] == expected.face_count


def assert_refused(status: int, answer: Any) -> None:
    assert status in REFUSED, answer
    assert answer["error"]["code"] == status
    assert answer["error"]["reason"]


def assert_explained(answer: dict[str, Any]) -> None:
    values = [value for row in answer["activation"] for value in row]
    assert values
    assert min(values) >= 0.0
    assert max(values) <= 1.0
    assert answer["objects"]
    assert all(len(item["box"]) == 4 for item in answer["objects"])


def assert_still_answers(server: TorchServe, image: bytes) -> None:
    assert server.predict(image)[0] == 200


@pytest.mark.threat("T11")
def test_single_requests_agree_with_the_predictor_in_process(
    server: TorchServe, predictor: Predictor, images: list[bytes]
) -> None:
    for image in images[:5]:
        status, answer = server.predict(image)
        assert status == 200
        (expected,) = predictor.predict([image])
        assert_same(answer, expected)
        assert answer["model"]["digest"] == predictor.model.digest


def test_32_requests_at_once_agree_with_the_predictor_in_process(
    server: TorchServe, predictor: Predictor, images: list[bytes]
) -> None:
    answers = all_at_once([partial(server.predict, image) for image in images])
    for (status, answer), expected in zip(answers, predictor.predict(images), strict=True):
        assert status == 200
        assert_same(answer, expected)


def test_the_compiled_form_answers_alike_in_process_behind_torchserve_and_in_rows(
    server: TorchServe, predictor: Predictor, archive: Path, tmp_path: Path
) -> None:
    images = drawn_images(9)  # more than a batch
    for number, image in enumerate(images):
        (tmp_path / f"{number}.img").write_bytes(image)
    (tmp_path / "list.txt").write_text("".join(f"{n}.img\n" for n in range(len(images))))
    out = tmp_path / "out"
    score_list(ScoreJob(str(tmp_path / "list.txt"), str(out), model=archive), load=OnDevice())
    manifest = json.loads((out / "_manifest.json").read_text())
    answers = all_at_once([partial(server.predict, image) for image in images])
    rows = pq.read_table(out).sort_by("position").to_pylist()
    for (_, answer), row, here in zip(answers, rows, predictor.predict(images), strict=True):
        assert_same(answer, here)
        for name, value in answer["probabilities"].items():
            assert row[f"p_{name}"] == pytest.approx(value, abs=SAME)
        assert row["emotion"] == answer["emotion"]
        assert answer["model"] == predictor.model.to_dict()
    assert predictor.model.runtime == manifest["model"]["runtime"] == "onnx"


@pytest.mark.parametrize("damage", ["garbage", "truncated"])
@pytest.mark.threat("T8")
def test_a_corrupt_neighbour_does_not_fail_the_batch(server: TorchServe, damage: str) -> None:
    images = drawn_images(8)
    images[3] = b"no image at all" if damage == "garbage" else images[0][:200]
    answers = all_at_once([partial(server.predict, image) for image in images])
    assert_refused(*answers[3])
    assert [status for i, (status, _) in enumerate(answers) if i != 3] == [200] * 7


def test_a_form_with_one_file_is_an_image(server: TorchServe, image: bytes) -> None:
    body, headers = form([("photo", image)])
    status, answer = ask(server, body, headers)
    assert status == 200
    assert answer["probabilities"] == pytest.approx(
        server.predict(image)[1]["probabilities"], abs=SAME
    )


def test_the_files_of_a_form_are_answered_in_their_order(
    server: TorchServe, predictor: Predictor
) -> None:
    one, other = drawn_images(2)
    body, headers = form([("one", one), ("broken", b"no image"), ("other", other)])
    status, answer = ask(server, body, headers)
    assert status == 200
    first, refused, last = answer["predictions"]
    for found, expected in zip((first, last), predictor.predict([one, other]), strict=True):
        assert_same(found, expected)
    assert refused["error"]["code"] == 415


def test_a_form_whose_files_share_a_name_is_refused_rather_than_half_answered(
    server: TorchServe,
) -> None:
    body, headers = form([("photo", image) for image in drawn_images(2)])
    assert_refused(*ask(server, body, headers))


def test_json_with_base64_is_answered_like_the_bytes(server: TorchServe, image: bytes) -> None:
    _, plain = server.predict(image)
    status, answer = ask(server, *json_request({"image": image}))
    assert status == 200
    assert answer.keys() == plain.keys()
    assert answer["probabilities"] == pytest.approx(plain["probabilities"], abs=SAME)


def test_many_images_in_one_document_get_one_answer_each(
    server: TorchServe, predictor: Predictor
) -> None:
    images = drawn_images(12)
    document = {"images": [*images[:5], "not base64!", *images[5:], None], "explain": True}
    status, answer = ask(server, *json_request(document))
    assert status == 200
    said = answer["predictions"]
    assert [i for i, one in enumerate(said) if "error" in one] == [5, 13]
    found = [one for one in said if "error" not in one]
    for one, expected in zip(found, predictor.predict(images), strict=True):
        assert_same(one, expected)
        assert_explained(one)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/octet-stream", b"", 400),
        ("application/json", b"", 400),
        ("application/json", b'{"image": "aGVsbG8="}', 415),
        ("application/json", b'{"image": "%%%"}', 400),
        ("application/json", b"[1, 2]", 400),
        ("application/json; charset=utf-8", b'{"image": ', 400),
        ("application/json", b"[" * 100_000, 400),
        ("text/plain", b"a photo of a sunset", 415),
        ("text/html", b"<html><body>not found</body></html>", 415),
        ("image/jpeg", b"<html><body>not found</body></html>", 415),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(
    server: TorchServe, image: bytes, kind: str, body: bytes, expected: int
) -> None:
    status, answer = ask(server, body, {"Content-Type": kind})
    assert_refused(status, answer)
    assert status == expected
    assert_still_answers(server, image)


def test_photos_up_to_the_size_limit_pass_the_front_end(server: TorchServe, image: bytes) -> None:
    limit = ImageLimits().max_bytes
    largest = image.ljust(limit, b"\0")
    assert server.predict(largest)[0] == 200
    assert ask(server, *json_request({"image": largest}))[0] == 200
    assert_refused(*server.predict(image.ljust(limit + 1, b"\0")))


@pytest.mark.parametrize("key", [None, "Bearer wrong", "wrong", ""])
@pytest.mark.threat("T9")
def test_a_request_without_the_key_is_refused(
    server: TorchServe, image: bytes, key: str | None
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.inference, timeout=30)
    headers = {"Content-Type": "application/octet-stream"}
    if key is not None:
        headers["Authorization"] = key
    connection.request("POST", server.client.path, body=image, headers=headers)
    response = connection.getresponse()
    assert response.status in REFUSED
    assert b"probabilities" not in response.read()
    connection.close()


@pytest.mark.threat("T6")
def test_the_inference_key_does_not_open_the_management(server: TorchServe) -> None:
    headers = {"Authorization": f"Bearer {server.client.token('inference')}"}
    status, _ = server.client.ask("GET", "/models", headers=headers, service="management")
    assert status in REFUSED


def test_an_expired_key_is_replaced_and_the_old_one_is_void(
    server: TorchServe, image: bytes
) -> None:
    old = server.client.token()
    keys = json.loads(server.directory.keys.read_text())
    keys["inference"]["expiration time"] = "2020-01-01T00:00:00.123456789Z"
    server.directory.keys.write_text(json.dumps(keys))
    assert server.client.token() != old
    assert_still_answers(server, image)
    assert ask(server, image, {"Authorization": f"Bearer {old}"})[0] in REFUSED


def test_no_port_is_open_to_other_machines(server: TorchServe) -> None:
    listening = [
        connection.laddr
        for process in server.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} >= {
        server.ports.inference,
        server.ports.management,
        server.ports.metrics,
        server.ports.grpc_inference,
        server.ports.grpc_management,
    }
    for address in listening:
        ip = ipaddress.ip_address(address.ip)
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        assert (mapped or ip).is_loopback, address


@pytest.mark.parametrize("header", ["X-Explain", "x-explain"])
def test_only_those_who_ask_get_an_explanation(
    server: TorchServe, image: bytes, header: str
) -> None:
    # Together in one batch: the answer of one must not depend on the wish of another.
    calls = [partial(ask, server, image, {header: "true"} if i % 2 else {}) for i in range(8)]
    for i, (status, answer) in enumerate(all_at_once(calls)):
        assert status == 200
        assert ("activation" in answer) == ("objects" in answer) == bool(i % 2)
        if i % 2:
            assert_explained(answer)


def test_the_explanations_path_explains(server: TorchServe, image: bytes) -> None:
    calls = [partial(server.predict, image, explain=bool(i % 2)) for i in range(8)]
    for i, (status, answer) in enumerate(all_at_once(calls)):
        assert status == 200
        assert ("activation" in answer) == bool(i % 2)
        if i % 2:
            assert_explained(answer)


def test_the_worker_runs_the_code_of_the_archive_not_of_the_checkout(server: TorchServe) -> None:
    told = server.client.describe()
    assert told["code"]["folder"].startswith(str(server.directory.scratch))
    assert told["card"]["model"]["name"] == server.model == "vea-lite"


def metrics_of(server: TorchServe) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.metrics, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def metric(server: TorchServe, start: str) -> float:
    """Sum of the metric's values over all its labels."""
    lines = metrics_of(server).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


def test_prometheus_can_read_how_often_the_model_was_asked(
    server: TorchServe, image: bytes
) -> None:
    assert_still_answers(server, image)
    text = metrics_of(server)
    counts = [line for line in text.splitlines() if line.startswith("ts_inference_requests_total{")]
    assert any(f'model_name="{server.model}"' in line for line in counts)


def test_prometheus_can_read_what_the_handler_measures(server: TorchServe, image: bytes) -> None:
    names = (
        *("vea_decode_seconds_count", "vea_select_seconds_count", "vea_network_seconds_count"),
        *("vea_whole_seconds_count", "vea_batch_size_sum", "vea_images_total"),
        'vea_refusals_total{reason="not-an-image"',
    )
    # A counter shows once it has counted.
    ask(server, b"no image")
    assert_still_answers(server, image)
    before = {name: metric(server, name) for name in names}
    ask(server, b"no image")
    assert_still_answers(server, image)
    for name in names:
        wait_until(lambda name=name: metric(server, name) > before[name])
    assert metric(server, "vea_whole_seconds_sum") < 600


def test_the_access_log_has_a_line_for_each_request_and_no_secrets(
    server: TorchServe, image: bytes
) -> None:
    key = server.client.token()
    path = f"{server.client.path}?name=private-holiday.jpg&key={key}"
    status, _ = server.client.ask("POST", path, body=b"no image")
    assert status == 415
    log = server.directory.access_log
    wait_until(lambda: f'"POST {server.client.path} HTTP/1.1" 415' in log.read_text())
    text = log.read_text()
    assert "private-holiday" not in text
    assert key not in text
