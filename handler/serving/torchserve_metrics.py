"""A batch's `BatchMetrics` as custom metrics of TorchServe, which Prometheus reads at ``/metrics``.

Durations are histograms in seconds; their default buckets range from 5 milliseconds to 10 seconds.
The worker prints a line for the front end for each figure, so there are few of them.
"""

from __future__ import annotations

from typing import Any

from handler.batch_metrics import BatchMetrics


def report(batch: BatchMetrics, *, requests: int, store: Any) -> None:
    """Report the metrics of a batch to TorchServe.

    Args:
        batch: Metrics of the batch.
        requests: Number of requests in the batch.
        store: ``context.metrics`` of TorchServe; None outside TorchServe.
    """
    if store is None:
        return
    from ts.metrics.dimension import Dimension  # noqa: PLC0415 - installed with TorchServe only
    from ts.metrics.metric_type_enum import MetricTypes  # noqa: PLC0415

    def add(name: str, value: float, kind: Any, unit: str, **labels: str) -> None:
        dimensions = [Dimension(label, word) for label, word in labels.items()]
        # Without request identifiers: one for each request of the batch would make the line long.
        store.add_metric(name, value, unit, dimensions=dimensions, metric_type=kind)

    for stage, seconds in sorted(batch.seconds.items()):
        name = f"vea_{stage}_seconds"
        add(name, round(seconds, 6), MetricTypes.HISTOGRAM, "seconds")
    add("vea_batch_size", requests, MetricTypes.HISTOGRAM, "count")
    counts = {
        "vea_images_total": batch.images,
        "vea_image_bytes_total": batch.received,
        "vea_faces_total": batch.faces,
    }
    for name, count in counts.items():
        add(name, count, MetricTypes.COUNTER, "count")
    for reason, count in sorted(batch.refusals.items()):
        add("vea_refusals_total", count, MetricTypes.COUNTER, "count", reason=reason)
