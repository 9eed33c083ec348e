"""Metrics of the gateway for Prometheus: `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class GatewayMetrics:
    """Number and duration of requests by route and status, and how many are in progress."""

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
            "Seconds from the head of a request to the end of its response.",
            ["route"],
            registry=self._registry,
        )
        self.asking = Gauge(
            "vea_web_asking", "Requests that wait for a model.", registry=self._registry
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Record one response; ``route`` is a pattern, never text of a client."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
