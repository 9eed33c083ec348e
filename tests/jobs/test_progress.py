"""What is told of a job while it runs, to people, to logs and to Prometheus."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from handler.values.prediction import ModelIdentity
from jobs.monitoring.counter import Progress
from jobs.monitoring.metrics import Metrics, MetricsError
from jobs.monitoring.progress import Status, Watch, reporting
from jobs.monitoring.summary import Summary

MODEL = ModelIdentity("vea-lite", "1.1", "d" * 64)
SUMMARY = Summary(
    run_id="abc",
    out="s3://r/x",
    complete=True,
    rows=100,
    ok=97,
    failed=3,
    reasons={"fetch/missing": 2, "decode/damaged": 1},
    files=1,
    parts=2,
    parts_skipped=0,
    poison=0,
    scored=100,
    seconds=50.0,
    busy_fraction=0.9,
)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_rate_and_time_left_are_those_of_the_last_minute_and_of_this_start():
    clock = Clock()
    watch = Watch(clock)
    assert watch.status() is None
    watch.see(Progress(10_000, done=5_000, earlier=5_000))
    for second in range(1, 201):
        clock.now += 1
        # Slow at first, then ten a second.
        scored = second if second <= 100 else 100 + 10 * (second - 100)
        watch.see(Progress(10_000, done=5_000 + scored, earlier=5_000, failed=1))
    status = watch.status()
    assert status.images_per_second == pytest.approx(10.0)
    assert status.eta_seconds == pytest.approx((5_000 - 1_100) / 10)
    assert status.seconds == 200
    clock.now += 120
    stalled = watch.status()
    assert (stalled.images_per_second, stalled.eta_seconds) == (0.0, None)


def test_images_that_go_back_to_the_undone_are_no_negative_rate():
    clock = Clock()
    watch = Watch(clock)
    clock.now += 1
    watch.see(Progress(10, done=-3))
    assert watch.status().images_per_second == 0.0


def test_a_log_gets_lines_of_json_while_the_job_runs_and_one_at_the_end():
    log = io.StringIO()
    written = threading.Event()
    console = Console(file=log, force_terminal=False)
    heard = []

    def listen(status):
        heard.append(status)
        written.set()

    with reporting([listen], console=console, every=0.02) as show:
        show(Progress(4, done=1, failed=1, reasons={"fetch/missing": 1}))
        # Without anything happening meanwhile.
        assert written.wait(10)
        show(Progress(4, done=4, failed=1, reasons={"fetch/missing": 1}))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len(lines) == len(heard) >= 2
    assert lines[0]["done"] == 1
    last = lines[-1]
    assert (last["done"], last["total"], last["failed"]) == (4, 4, 1)
    assert last["reasons"] == {"fetch/missing": 1}
    assert last["eta_seconds"] == 0
    assert set(last) >= {"images_per_second", "seconds"}


def test_a_job_that_never_began_says_nothing():
    log = io.StringIO()
    with (
        pytest.raises(RuntimeError),
        reporting(console=Console(file=log, force_terminal=False), every=0.01),
    ):
        raise RuntimeError
    assert log.getvalue() == ""


def test_the_last_line_comes_also_when_the_job_fails():
    log = io.StringIO()

    def fail():
        with reporting(console=Console(file=log, force_terminal=False)) as show:
            show(Progress(4, done=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert json.loads(log.getvalue())["done"] == 1


def test_a_terminal_gets_a_bar_with_rate_time_left_and_reasons():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150, color_system=None)
    with reporting(console=console) as show:
        reasons = {"fetch/missing": 5, "a/b": 4, "c/d": 3, "e/f": 2, "g/h": 1}
        show(Progress(40, done=20, failed=15, reasons=reasons))
    text = screen.getvalue()
    for words in ("20/40", "/s", "left", "5 fetch/missing, 4 a/b, 3 c/d, 3 other"):
        assert words in text
    assert "{" not in text


def metrics(tmp_path, warnings, **options):
    file = tmp_path / "vea.prom"
    return file, Metrics(MODEL, file=file, warn=warnings.append, clock=Clock(), **options)


def read(file):
    """Values by name and labels."""
    families = text_string_to_metric_families(file.read_text())
    return {
        (sample.name.removeprefix("vea_score_"), *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_metrics_file_tells_of_a_running_and_of_a_finished_job(tmp_path):
    warnings = []
    file, made = metrics(tmp_path, warnings)
    assert read(file)["succeeded",] == 0
    made.running(Status(10, 100, 2, {"fetch/missing": 2}, 5.0, 2.0, 18.0))
    running = read(file)
    assert running["images", "ok"] == 8
    assert running["images", "failed"] == 2
    assert running["failed_images", "fetch", "missing"] == 2
    assert running["images_per_second",] == 5
    assert running["listed_images",] == 100
    assert running["succeeded",] == 0
    assert ("last_success_timestamp_seconds",) not in running
    made.ended(SUMMARY)
    ended = read(file)
    assert ended["images", "ok"] == 97
    assert ended["failed_images", "damaged", "decode"] == 1
    assert ended["busy_share",] == 0.9
    assert ended["seconds",] == 50
    assert ended["succeeded",] == 1
    assert ended["last_success_timestamp_seconds",] == 1000
    assert ("run_info", "1.1", "abc", "d" * 64, "vea-lite") in ended
    assert [path.name for path in tmp_path.iterdir()] == ["vea.prom"]
    assert warnings == []


def test_the_last_success_outlives_a_failure(tmp_path):
    metrics(tmp_path, [])[1].ended(SUMMARY)
    file, failed = metrics(tmp_path, [])
    assert read(file)["last_success_timestamp_seconds",] == 1000
    failed.running(Status(10, 100, 10))
    failed.ended(None)
    assert read(file)["succeeded",] == 0
    assert read(file)["last_success_timestamp_seconds",] == 1000


def test_a_metrics_file_that_cannot_be_is_told_before_the_work(tmp_path):
    with pytest.raises(MetricsError, match=r"--metrics-file .*none/vea\.prom cannot be written"):
        metrics(tmp_path / "none", [])


def test_a_metrics_file_that_vanishes_is_a_warning(tmp_path):
    warnings = []
    (tmp_path / "x").mkdir()
    file, made = metrics(tmp_path / "x", warnings)
    file.unlink()
    file.parent.rmdir()
    made.running(Status(1, 2, 0))
    made.ended(SUMMARY)
    assert len(warnings) == 1


@pytest.fixture
def gateway():
    """A server that keeps what is pushed."""
    pushed = []

    class Keeps(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            pushed.append((self.path, body.decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Keeps)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", pushed
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.integration
def test_a_gateway_gets_the_numbers_now_and_then_and_at_the_end(gateway):
    url, pushed = gateway
    warnings, clock = [], Clock()
    made = Metrics(MODEL, gateway=url, shard="3/8", warn=warnings.append, clock=clock)
    for _ in range(35):
        made.running(Status(10, 100, 2))
        clock.now += 1
    assert len(pushed) == 2
    made.ended(None)
    assert "last_success" not in pushed[-1][1]  # as POST this leaves the gateway's value alone
    made.ended(SUMMARY)
    path, body = pushed[-1]
    assert path.startswith("/metrics/job/vea_score/share")
    assert 'vea_score_images{status="ok"} 97.0' in body
    assert "vea_score_last_success_timestamp_seconds 1035.0" in body
    assert warnings == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "no url at all://"])
def test_a_gateway_that_is_not_there_is_one_warning(url):
    warnings = []
    made = Metrics(MODEL, gateway=url, warn=warnings.append)
    made.running(Status(1, 2, 0))
    made.ended(SUMMARY)
    assert len(warnings) == 1
    assert url in warnings[0]
    assert "\n" not in warnings[0]
