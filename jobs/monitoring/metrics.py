"""Metrics of a job for Prometheus: a text file for node_exporter, or a push to a gateway.

The file is for node_exporter's textfile collector: give it a name that ends in .prom inside the
collector's folder. Both are updated while the job runs, and at its end. The time of the last
success survives jobs that fail, so that an alert can say "no success since yesterday". An error
with either is a warning: it does not end the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity
from jobs.monitoring.progress import Status
from jobs.monitoring.summary import Summary

_JOB = "vea_score"
_LAST_SUCCESS = f"{_JOB}_last_success_timestamp_seconds"
_BETWEEN_PUSHES = 30.0
_TIMEOUT = 10.0


class MetricsError(VeaError):
    """The metrics cannot be written; the message is one line for people."""


class Metrics:
    """Writes the metrics of one job.

    Args:
        model: Identity of the model.
        file: File of the textfile collector; None to write none.
        gateway: URL of a Prometheus Pushgateway, if there is one.
        shard: Shard of this attempt, such as ``3/8``, which tells the metrics of shards apart.
        warn: Called once with one line for each thing that does not work.
        clock: Function that returns seconds since 1970.

    Raises:
        MetricsError: The file cannot be written.
    """

    def __init__(
        self,
        model: ModelIdentity,
        *,
        file: Path | None = None,
        gateway: str | None = None,
        shard: str | None = None,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model = model
        self._file = file
        self._gateway = gateway
        self._group = {"share": shard} if shard else {}
        self._warn = warn
        self._clock = clock
        self._warned: set[str] = set()
        self._pushed = 0.0
        self._status = Status(0, 0, 0)
        self._succeeded_before = _last_success(file)
        if file:
            # Said now rather than after hours of work.
            try:
                self._write(file, self._numbers(None))
            except OSError as error:
                raise MetricsError(
                    f"--metrics-file {file} cannot be written: {error.strerror}"
                ) from None

    def running(self, status: Status) -> None:
        """Update the metrics of a running job; a `jobs.monitoring.progress.Listener`."""
        self._status = status
        self._publish(None, push=self._clock() - self._pushed >= _BETWEEN_PUSHES)

    def ended(self, summary: Summary | None) -> None:
        """Write the final metrics; without a summary the job has failed."""
        self._publish(summary, push=True)

    def _publish(self, summary: Summary | None, *, push: bool) -> None:
        numbers = self._numbers(summary)
        try:
            if self._file:
                self._write(self._file, numbers)
        except OSError as error:
            self._warn_once(f"--metrics-file {self._file} cannot be written: {error.strerror}")
        if not (self._gateway and push):
            return
        self._pushed = self._clock()
        try:
            # Adding keeps a metric that is not sent: the time of the last success.
            pushadd_to_gateway(self._gateway, _JOB, numbers, self._group, timeout=_TIMEOUT)
        except (OSError, HTTPException, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            self._warn_once(f"--push-gateway {self._gateway} rejected the metrics: {said}")

    def _write(self, file: Path, numbers: CollectorRegistry) -> None:
        if self._succeeded_before is not None and _LAST_SUCCESS not in _names(numbers):
            _success(numbers).set(self._succeeded_before)
        write_to_textfile(str(file), numbers)

    def _warn_once(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)

    def _numbers(self, summary: Summary | None) -> CollectorRegistry:
        registry = CollectorRegistry()

        def gauge(name: str, text: str, value: float, **labels: str) -> None:
            metric = made.get(name)
            if metric is None:
                made[name] = metric = Gauge(f"{_JOB}_{name}", text, list(labels), registry=registry)
            (metric.labels(**labels) if labels else metric).set(value)

        made: dict[str, Gauge] = {}
        now = self._status
        done, failed, reasons = now.done, now.failed, now.reasons
        rate, seconds = now.images_per_second, now.seconds
        if summary:
            done, failed, reasons = summary.rows, summary.failed, summary.reasons
            rate, seconds = summary.images_per_second, summary.seconds
            gauge(
                "busy_share", "Fraction of the time in which models worked.", summary.busy_fraction
            )
        total = max(now.total, done)
        for status, count in (("ok", done - failed), ("failed", failed)):
            gauge("images", "Finished images.", count, status=status)
        gauge("listed_images", "Images of the job.", total)
        for reason, count in reasons.items():
            stage, _, kind = reason.partition("/")
            gauge("failed_images", "Images without a prediction.", count, stage=stage, reason=kind)
        gauge("images_per_second", "Images per second in this attempt.", rate)
        gauge("seconds", "Seconds since this attempt began.", seconds)
        gauge("succeeded", "1 if the last job has succeeded.", int(summary is not None))
        gauge(
            "run_info",
            "What was scored with which model.",
            1,
            run_id=summary.run_id if summary else "",
            model_name=self._model.name,
            model_version=self._model.version,
            model_digest=self._model.digest,
        )
        if summary:
            _success(registry).set(self._clock())
        return registry


def _success(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        _LAST_SUCCESS, "Time of the last success, in seconds since 1970.", registry=registry
    )


def _names(registry: CollectorRegistry) -> set[str]:
    return {family.name for family in registry.collect()}


def _last_success(file: Path | None) -> float | None:
    """The time of the last success in the file of an earlier job."""
    try:
        text = file.read_text(encoding="utf-8") if file else ""
        for family in text_string_to_metric_families(text):
            if family.name == _LAST_SUCCESS:
                return float(family.samples[0].value)
    except (OSError, ValueError, IndexError):
        return None  # the first job, or a file of another program
    return None
