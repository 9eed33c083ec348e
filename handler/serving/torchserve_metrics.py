"""A batch's `Measures` as TorchServe's custom metrics, which Prometheus reads under ``/metrics``.

Times are histograms in seconds, whose default buckets reach from 5 milliseconds to 10 seconds.
Each figure is a line that the worker prints for the front end, so there are few of them.
"""

from __future__ import annotations

from typing import Any

from handler.batch_metrics import Measures


def report(measures: Measures, *, requests: int, metrics: Any) -> None:
    """Tell TorchServe.

    Args:
        measures: of one batch.
        requests: in that batch.
        metrics: ``context.metrics``; None where there is no TorchServe.
    """
    if metrics is None:
        return
    from ts.metrics.dimension import Dimension  # noqa: PLC0415 - there only inside TorchServe
    from ts.metrics.metric_type_enum import MetricTypes  # noqa: PLC0415

    def tell(name: str, value: float, kind: Any, unit: str, **labels: str) -> None:
        dimensions = [Dimension(label, word) for label, word in labels.items()]
        # A name for each request of the batch would make the line long and tell nothing.
        metrics.add_metric(name, value, unit, dimensions=dimensions, metric_type=kind)

    for stage, seconds in sorted(measures.seconds.items()):
        name = f"vea_{stage}_seconds"
        tell(name, round(seconds, 6), MetricTypes.HISTOGRAM, "seconds")
    tell("vea_batch_size", requests, MetricTypes.HISTOGRAM, "count")
    counts = {
        "vea_images_total": measures.images,
        "vea_image_bytes_total": measures.received,
        "vea_faces_total": measures.faces,
    }
    for name, count in counts.items():
        tell(name, count, MetricTypes.COUNTER, "count")
    for reason, count in sorted(measures.refusals.items()):
        tell("vea_refusals_total", count, MetricTypes.COUNTER, "count", reason=reason)
