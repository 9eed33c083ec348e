"""The options of `vea score`: what each takes, and what its help says."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from handler.values.runtimes import VARIABLE
from vea.commands.runtime import RuntimeChoice
from vea.face_option import FacesChoice

_WORK, _IMAGES, _WATCH = "Who works", "Images and rows", "Watching and stopping"
_SERVICE = "A service instead of a model"

ImageList = Annotated[
    str,
    typer.Argument(
        metavar="LIST",
        help="The list of images: .txt, .csv, .tsv, .jsonl or .parquet (the first four also .gz "
        "and .zst), a path or s3://… (also gs:// and az://); or a folder or prefix that ends in "
        "'/', for all images under it. Also files that hold the pictures: .tar, .tar.gz, .tar.zst, "
        ".parquet, one, a folder of them, or a pattern in quotes such as 's3://photos/*.tar'.",
    ),
]
Out = Annotated[
    str,
    typer.Option(
        help="Folder of the result: a path, or s3://bucket/prefix (also gs:// and az://)."
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(help="The archive to score with (.mar or folder); or give --endpoint."),
]
Date = Annotated[
    str | None,
    typer.Option(
        help="yesterday, today or YYYY-MM-DD: what {date}, {yyyy}, {mm} and {dd} in LIST and "
        "--out stand for.",
    ),
]

Column = Annotated[
    str | None,
    typer.Option(
        help="Column that names or holds the image; in archives the ending of the pictures to "
        "score, such as jpg. [default: the first of image, image_url, url, uri, path, key, s3_key "
        "and file, or the only one that holds pictures; in archives all pictures]",
        rich_help_panel=_IMAGES,
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the list to take over into the result, such as txt; again for more, '' "
        "for none. [default: all but those that hold pictures]",
        metavar="NAME",
        rich_help_panel=_IMAGES,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        help='JSON file of the columns to take over and their types, such as {"post": "int64", '
        '"score": "double"}: a path or s3://… likewise. [default: the columns of the nights '
        "before, which the first one keeps in _schema.json beside the folders of the nights]",
        metavar="FILE",
        rich_help_panel=_IMAGES,
    ),
]
Boxes = Annotated[
    bool,
    typer.Option(
        "--boxes",
        help="A further column with the objects: boxes, labels, attention.",
        rich_help_panel=_IMAGES,
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        help="Host from which https:// images may be fetched, such as images.example.org or "
        "*.example.org; again for more.",
        metavar="HOST",
        rich_help_panel=_IMAGES,
    ),
]
ChunkSize = Annotated[
    int,
    typer.Option(
        min=1,
        help="Images that are scored and kept together: what an interruption can cost a worker.",
        rich_help_panel=_IMAGES,
    ),
]
MaxErrorRate = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Stop with exit code 3 as soon as it is certain that a larger part of all images "
        "fails; 1 accepts every run. [default: exit code 3 only if no image could be scored]",
        rich_help_panel=_IMAGES,
    ),
]
ReplaceFailed = Annotated[
    bool,
    typer.Option(
        "--replace-failed",
        help="If the run in --out ended with exit code 3, replace it: by that of a mended list, or "
        "by another attempt at its failed images. Any other run is left as it is.",
        rich_help_panel=_IMAGES,
    ),
]

Delta = Annotated[
    str | None,
    typer.Option(
        help="Commit the finished rows to this Delta Lake table too, a path, or s3://bucket/prefix "
        "(also gs:// and az://), in place of those of the same partition (such as dt=2026-11-23); "
        "needs the extra 'delta'.",
        metavar="TABLE",
        rich_help_panel=_IMAGES,
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that score; 0: only this one. [default: one for each CPU; with --ray as "
        "many as there is room for]",
        rich_help_panel=_WORK,
    ),
]
Threads = Annotated[
    int,
    typer.Option(min=1, help="Threads that each worker computes with.", rich_help_panel=_WORK),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the networks run, e.g. cuda:0. [default: cpu; cuda with --gpus-per-worker]",
        rich_help_panel=_WORK,
    ),
]
Runtime = Annotated[
    RuntimeChoice,
    typer.Option(
        "--runtime",
        envvar=VARIABLE,
        help="What computes the backbones: onnx for the archive's compiled form, on a CPU; torch; "
        "auto for onnx where that is possible. A run keeps its runtime.",
        rich_help_panel=_WORK,
    ),
]
Faces = Annotated[
    FacesChoice,
    typer.Option(
        "--faces",
        help="off: look for no faces; rows have no columns of faces. A run keeps its choice. Not "
        "with --endpoint: start that service with --faces off.",
        rich_help_panel=_IMAGES,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Score on a Ray cluster: its address, or auto.",
        metavar="auto|ADDRESS",
        rich_help_panel=_WORK,
    ),
]
GpusPerWorker = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="GPUs that each worker on Ray takes; may be a fraction.",
        rich_help_panel=_WORK,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Score shard I of N, counted from 0: N machines run this command, and the last one to "
        "end commits the result. [default: in an AWS Batch array job, its own]",
        metavar="I/N",
        rich_help_panel=_WORK,
    ),
]
FetchThreads = Annotated[
    int,
    typer.Option(
        min=1, max=256, help="Images that each worker fetches at a time.", rich_help_panel=_WORK
    ),
]
Fetcher = Annotated[
    Literal["obstore", "boto3"],
    typer.Option(
        help="Library that fetches images from S3. obstore takes less CPU time; objects that it "
        "cannot verify are fetched by boto3.",
        rich_help_panel=_WORK,
    ),
]

EndpointUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        help="Have a running service score, such as http://127.0.0.1:8080.",
        metavar="URL",
        rich_help_panel=_SERVICE,
    ),
]
EndpointModel = Annotated[
    str,
    typer.Option(help="Name of its model.", metavar="NAME", rich_help_panel=_SERVICE),
]
EndpointVersion = Annotated[
    str | None,
    typer.Option(
        help="Version of its model. [default: the service's own default]",
        metavar="VERSION",
        rich_help_panel=_SERVICE,
    ),
]
EndpointKeyFile = Annotated[
    Path | None,
    typer.Option(
        help="key_file.json of a TorchServe on this machine, whose key is renewed in time. "
        "[default: the key in the variable VEA_ENDPOINT_KEY, if any]",
        rich_help_panel=_SERVICE,
    ),
]
EndpointConcurrency = Annotated[
    int,
    typer.Option(min=1, max=256, help="Images that are sent at a time.", rich_help_panel=_SERVICE),
]

Grace = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Seconds that chunks under way have to end after SIGTERM or Ctrl-C.",
        rich_help_panel=_WATCH,
    ),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option(
        help="Write metrics there, for the textfile collector of node_exporter (name it ….prom).",
        rich_help_panel=_WATCH,
    ),
]
PushGateway = Annotated[
    str | None,
    typer.Option(
        help="Push metrics to this Prometheus Pushgateway.",
        metavar="URL",
        rich_help_panel=_WATCH,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="The summary as JSON.", rich_help_panel=_WATCH)
]

# The names of these options in earlier versions.
OldShard = Annotated[str | None, typer.Option("--share", hidden=True)]
OldMaxErrorRate = Annotated[
    float | None, typer.Option("--max-error-share", min=0.0, max=1.0, hidden=True)
]
