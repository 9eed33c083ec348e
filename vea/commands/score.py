"""`vea score`: a list of images -> predictions in parquet."""

from __future__ import annotations

import datetime
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vea.commands import row_options
from vea.commands import score_options as options
from vea.commands import score_plan as plan
from vea.commands.runtime import RuntimeChoice
from vea.commands.score_engine import engine_of, read_shard
from vea.commands.score_table import columns_check, commit
from vea.face_option import FacesChoice
from vea.tables import summary_table
from vea.terminal import complain, print_json
from vea.terminal import out as terminal_out

if TYPE_CHECKING:
    from handler.values.prediction import ModelIdentity
    from jobs.engines.base import Engine
    from jobs.monitoring.counter import Progress
    from jobs.monitoring.metrics import Metrics
    from jobs.monitoring.summary import Summary
    from jobs.scoring.sources import OnDevice
    from jobs.values.job import EndpointSettings, ScoreJob


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(score)


def score(
    image_list: options.ImageList,
    out: options.Out,
    model: options.Model = None,
    endpoint: options.EndpointUrl = None,
    endpoint_model: options.EndpointModel = "vea-lite",
    endpoint_version: options.EndpointVersion = None,
    endpoint_key_file: options.EndpointKeyFile = None,
    endpoint_concurrency: options.EndpointConcurrency = 16,
    date: options.Date = None,
    column: options.Column = None,
    keep: options.Keep = None,
    schema: options.Schema = None,
    boxes: options.Boxes = False,
    embeddings: row_options.Embeddings = False,
    columns: row_options.Columns = None,
    content_hash: row_options.ContentHash = False,
    once: row_options.Once = False,
    since: row_options.Since = None,
    allow_host: options.AllowHost = None,
    chunk_size: options.ChunkSize = 1000,
    max_error_rate: options.MaxErrorRate = None,
    replace_failed: options.ReplaceFailed = False,
    delta: options.Delta = None,
    workers: options.Workers = None,
    threads: options.Threads = 1,
    device: options.Device = None,
    runtime: options.Runtime = RuntimeChoice.AUTO,
    faces: options.Faces = FacesChoice.ON,
    ray: options.Ray = None,
    gpus_per_worker: options.GpusPerWorker = 0.0,
    shard: options.Shard = None,
    old_shard: options.OldShard = None,
    old_max_error_rate: options.OldMaxErrorRate = None,
    fetch_threads: options.FetchThreads = 16,
    fetcher: options.Fetcher = "obstore",
    grace: options.Grace = 20.0,
    metrics_file: options.MetricsFile = None,
    push_gateway: options.PushGateway = None,
    dry_run: plan.DryRun = False,
    price_per_hour: plan.PricePerHour = None,
    as_json: options.AsJson = False,
) -> None:
    """Score a list of images, in an object store or on this machine, into parquet.

    Every row of the list gives one row: emotion, all probabilities, faces and objects, or why there
    are none, and the list's other columns. Start the same command again after an interruption, and
    it goes on where it stopped; a finished run is left as it is.

    **Example**, where each line of `photos.txt` is `s3://photos/2026/beach.jpg` or a path:

    `vea score photos.txt --out s3://results/photos --model model_store/vea-lite-3.1.mar`

    **Every night**, from cron; the list is what another job left there for the day:

    `vea score s3://lists/{date}.parquet --out s3://results/dt={date}/model_version={model_version}
    --date yesterday --model vea.mar --max-error-rate 0.05 --metrics-file /var/lib/node/vea.prom`

    `{model_name}` and `{model_version}` are always filled in; a new model writes beside the old
    one. Then read the folder with `pandas.read_parquet("s3://results/photos")`; `_manifest.json` in
    it says what it holds, and `_SUCCESS` is there when it is complete. S3 is reached with the usual
    AWS settings, where AWS_ENDPOINT_URL_S3 names a server of your own; `gs://bucket/key` with those
    of Google Cloud and `az://container/key` with those of Azure.

    **Through a service** that runs already, with the same rows, and a line and exit code 1 if it
    changes to another model meanwhile:

    `vea score photos.txt --out results --endpoint http://127.0.0.1:8080 --endpoint-key-file
    ~/.local/state/vea/serve/key_file.json`

    **Exit codes**: 0 all images are through; 1 the job cannot be done, and a line says why; 2 wrong
    usage; 3 too many images failed, or all; 130 or 143 stopped by Ctrl-C or SIGTERM.
    """
    from jobs.monitoring.counter import Stopped, TooManyFailed
    from jobs.scoring.sources import OnDevice, source_of
    from jobs.values.job import ScoreJob, shard_of

    price = plan.price_of(price_per_hour, dry_run=dry_run)
    if delta is not None:
        from jobs.output.delta import require_delta

        require_delta()
    service = _endpoint(
        endpoint, endpoint_model, endpoint_version, endpoint_key_file, endpoint_concurrency
    )
    if (model is None) == (service is None):
        raise typer.BadParameter("give either an archive or --endpoint", param_hint="--model")
    if service is not None:
        if device or gpus_per_worker:
            raise typer.BadParameter(
                "the service has its own devices", param_hint="--device, --gpus-per-worker"
            )
        if not faces.on:
            raise typer.BadParameter(
                "the service decides: start it with --faces off", param_hint="--faces"
            )
        if embeddings:
            raise typer.BadParameter(
                "the service gives none: use --model", param_hint="--embeddings"
            )
        # One process is enough to wait.
        workers = 0 if workers is None and ray is None else workers
    engine = engine_of(ray, workers, threads, gpus_per_worker)
    index, of = shard_of(read_shard(shard or old_shard))
    job = ScoreJob(
        image_list=image_list,
        out=out,
        model=model,
        endpoint=service,
        column=column,
        keep=None if keep is None else [name for name in keep if name],
        schema=schema,
        chunk_size=chunk_size,
        fetch_threads=fetch_threads,
        threads=threads,
        boxes=boxes,
        embeddings=embeddings,
        columns=row_options.names(columns),
        content_hash=content_hash,
        once=once,
        since=since,
        hosts=tuple(allow_host or ()),
        fetcher=fetcher,
        shard=(index, of),
        max_error_rate=max_error_rate if old_max_error_rate is None else old_max_error_rate,
        replace_failed=replace_failed,
    )
    on = OnDevice(device or ("cuda" if gpus_per_worker else "cpu"), runtime.value, faces.on)
    identity = source_of(job, on).identify()[0]
    job = replace(
        job,
        image_list=_fill(image_list, date, identity),
        out=_fill(out, date, identity),
        since=since and _fill(since, date, identity),
        endpoint=service and replace(service, expected=identity),
    )
    if dry_run:
        table = delta and _fill(delta, date, identity)
        plan.show(job, on, delta=table, price=price, as_json=as_json)
        return
    seen: list[Progress] = []
    metrics = _metrics(identity, metrics_file, push_gateway, f"{index}/{of}" if of > 1 else None)
    try:
        summary = _run(
            job,
            engine,
            load=on,
            grace=grace,
            metrics=metrics,
            seen=seen,
            delta=delta and _fill(delta, date, identity),
        )
    except (Stopped, TooManyFailed) as error:
        if as_json:
            print_json(_unfinished(seen, str(error)))
        complain(str(error))
        raise typer.Exit(error.exit_code) from None
    if delta is not None and summary.complete:
        commit(job.out, _fill(delta, date, identity))
    if as_json:
        print_json(summary.to_dict())
    else:
        terminal_out().print(summary_table(summary))


def _run(
    job: ScoreJob,
    engine: Engine,
    *,
    load: OnDevice,
    grace: float,
    metrics: Metrics | None,
    seen: list[Progress],
    delta: str | None,
) -> Summary:
    """Score, with whoever wants to know kept informed; ``seen`` gets the latest progress."""
    from handler.telemetry import start_telemetry
    from jobs.monitoring.progress import reporting
    from jobs.run.driver import score_list

    summary, telemetry = None, start_telemetry("vea-score")
    try:
        with reporting([metrics.running] if metrics else []) as show:

            def on_progress(now: Progress) -> None:
                seen[:] = [now]
                show(now)

            summary = score_list(
                job,
                engine=engine,
                on_progress=on_progress,
                load=load,
                grace=grace,
                warn=complain,
                accept=columns_check(job.out, delta) if delta else None,
                telemetry=telemetry,
            )
    finally:
        telemetry.close()
        if metrics:
            metrics.ended(summary)
    return summary


def _endpoint(
    url: str | None, model: str, version: str | None, key_file: Path | None, concurrency: int
) -> EndpointSettings | None:
    """The service that scores, if one was named."""
    if url is None:
        return None
    from jobs.values.job import EndpointSettings

    # Not an option: a command line is seen by everybody on the machine.
    key = os.environ.get("VEA_ENDPOINT_KEY")
    return EndpointSettings(url, model, version, key, key_file, concurrency)


def _fill(text: str, date: str | None, model: ModelIdentity) -> str:
    """Put the day and the model in the places of ``{date}`` and so on."""
    from jobs.values.templates import fill, parse_date

    # The time zone of the machine, as cron has it; set TZ for another.
    day = None if date is None else parse_date(date, today=datetime.date.today())
    return fill(text, date=day, model_name=model.name, model_version=model.version)


def _metrics(
    model: ModelIdentity, file: Path | None, gateway: str | None, shard: str | None
) -> Metrics | None:
    if not (file or gateway):
        return None
    from jobs.monitoring.metrics import Metrics

    return Metrics(model, file=file, gateway=gateway, shard=shard, warn=complain)


def _unfinished(seen: list[Progress], error: str) -> dict[str, Any]:
    """What there is to say instead of a summary."""
    counts = asdict(seen[-1]) if seen else {}
    return {"complete": False, **counts, "error": error}
