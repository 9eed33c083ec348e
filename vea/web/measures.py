"""Figures of the gateway for Prometheus: `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Measures:
    """Requests by path and status, their times, and how many are under way."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "vea_web_requests",
            "Requests answered, by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "vea_web_request_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            registry=self._registry,
        )
        self.asking = Gauge(
            "vea_web_asking", "Requests that wait for a model.", registry=self._registry
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer; ``route`` is a pattern, never a client's own words."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
