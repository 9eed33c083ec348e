"""Settings of a job: the list, the model or the service, the output, and how the work is done.

Plain values: nothing here reads, connects or computes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity
from jobs.values.chunks import DEFAULT_SIZE

_BATCH_INDEX, _BATCH_SIZE = "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"


@dataclass(frozen=True)
class RetrySettings:
    """Number of attempts, and waits between them.

    Attributes:
        attempts: Maximum number of requests. Seven lose one object in 80,000 where every fifth
            answer is 503; three lose one in 125.
        base: Upper limit of the first wait, in seconds; the wait is random.
        cap: Upper limit of every wait, in seconds.
    """

    attempts: int = 7
    base: float = 0.5
    cap: float = 20.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after the given number of failed attempts (1 or more)."""
        # Jitter against stampedes, not a secret: the standard random generator is good enough.
        return random.random() * min(self.cap, self.base * 2.0 ** (failures - 1))


@dataclass(frozen=True)
class EndpointSettings:
    """A running service, and the model of it that scores.

    Attributes:
        url: URL of the service.
        model: Name of the model on the service.
        version: Version of the model; the service's default version if None.
        key: Access key; excludes ``key_file``.
        key_file: TorchServe's ``key_file.json``.
        concurrency: Number of images that are sent at a time.
        patience: Seconds that the service may be away.
        expected: Identity of the model that all answers must be of.
        traceparent: Trace context that requests carry; None without a trace.
    """

    url: str
    model: str
    version: str | None = None
    key: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    concurrency: int = 16
    patience: float = 300.0
    expected: ModelIdentity | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class ScoreJob:
    """What to score, with what, and where to.

    Attributes:
        image_list: The list of images, a path or ``s3://bucket/key``; or a folder or prefix.
        out: Folder of the result, a path or ``s3://bucket/prefix``.
        model: Path of an archive; None with ``endpoint``.
        endpoint: Service that scores; rows and the run's identity are the same either way.
        column: Column of the images, in lists with columns; found by its name if None.
        keep: Columns that pass through to the result; all if None.
        schema: Location of a JSON file of the columns that pass through and their types; None for
            those of the nights before, or of the list.
        chunk_size: Number of images in a part.
        fetch_threads: Number of images that a worker fetches at a time.
        threads: Number of threads that a worker computes with.
        boxes: Whether the result has the boxes of all objects.
        columns: Columns that the result has beside the indispensable ones, in this order; None for
            all.
        embeddings: Whether the result has the network's fused feature of each image.
        hosts: Hosts that images may be fetched from over HTTPS.
        fetcher: Library that fetches images from S3.
        retry: Retry settings of requests.
        shard: Index of this attempt and number of the attempts that divide the chunks among them:
            each takes the chunks whose number leaves its index as remainder. From AWS Batch's
            array jobs if not given.
        max_error_rate: Failure rate of the run, 0 to 1, above which it is not completed; if None,
            a run is not completed only if no image of it could be scored.
        replace_failed: Whether a run in ``out`` that ended with too many failures is replaced.
        content_hash: Whether the result has the digest of each image's bytes.
        once: Whether an image that is listed more than once is fetched and scored once.
        since: Folder of earlier runs whose answers are copied, a path or ``s3://bucket/prefix``.
    """

    image_list: str
    out: str
    model: Path | None = None
    endpoint: EndpointSettings | None = None
    column: str | None = None
    keep: Sequence[str] | None = None
    schema: str | None = None
    chunk_size: int = DEFAULT_SIZE
    fetch_threads: int = 16
    threads: int = 1
    boxes: bool = False
    embeddings: bool = False
    columns: Sequence[str] | None = None
    hosts: tuple[str, ...] = ()
    fetcher: Literal["boto3", "obstore"] = "obstore"
    retry: RetrySettings = field(default_factory=RetrySettings)
    shard: tuple[int, int] | None = None
    max_error_rate: float | None = None
    replace_failed: bool = False
    content_hash: bool = False
    once: bool = False
    since: str | None = None


def shard_of(given: tuple[int, int] | None) -> tuple[int, int]:
    """Index of this attempt, and number of attempts that divide the chunks.

    Args:
        given: Shard that the user gave; None leaves it to AWS Batch.

    Raises:
        VeaError: AWS Batch gives no such numbers.
    """
    index, of = given or (0, 1)
    if given is None and _BATCH_INDEX in os.environ and _BATCH_SIZE in os.environ:
        try:
            index, of = int(os.environ[_BATCH_INDEX]), int(os.environ[_BATCH_SIZE])
        except ValueError:
            index, of = -1, 0
    if not 0 <= index < of:
        raise VeaError(
            f"shard {index} of {of}: expected an index from 0 to one less than the number of shards"
        )
    return index, of
