"""`vea`: one program, one command for each thing that people do with it.

Exit codes: 0 done; 1 the work failed, with one line that says why; 2 wrong usage; 3 `score`
ended because more images failed than allowed; 4 `report --fail-on-drift` found drift; 143 or 130
the command was stopped by SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from handler import __version__
from handler.values.errors import VeaError
from vea.local_paths import LocalPathsGroup
from vea.stopping import Stopped
from vea.terminal import complain

# What to install when a command's package is missing.
_EXTRAS = {
    "pytorch_lightning": "train",
    "torchmetrics": "train",
    "pandas": "train",
    "model_archiver": "train",
    "matplotlib": "train",
    "boto3": "jobs",
    "botocore": "jobs",
    "pyarrow": "jobs",
    "jinja2": "jobs",
    "prometheus_client": "jobs",
    "ray": "ray",
    "obstore": "jobs",
    "ts": "serve",
    "starlette": "web",
    "uvicorn": "web",
    "httpx2": "web",
    "h11": "web",
    "detectron2": "detectron2",
}
# Errors of files that a user can mend: a full or read-only disk, rights, a file for a folder.
_OF_THE_DISK = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EFBIG),
    }
)


def build_app() -> typer.Typer:
    """The program with all its commands; their heavy imports wait until one runs."""
    from vea.commands import (
        ablate,
        backfill,
        cache,
        cross_validate,
        data,
        detectron2,
        evaluate,
        explain,
        forget,
        models,
        package,
        predict,
        report,
        score,
        serve,
        train,
        web,
        weights,
    )
    from vea.demo import command as demo

    app = typer.Typer(
        name="vea",
        cls=LocalPathsGroup,
        help="Which emotions does a photo evoke, and why? "
        "Start with `vea demo`, or `vea predict PHOTO`.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    for module in (
        *(demo, predict, explain, data, cache, train, package, weights),
        *(
            evaluate,
            cross_validate,
            ablate,
            serve,
            models,
            web,
            score,
            backfill,
            report,
            forget,
            detectron2,
        ),
    ):
        module.register(app)
    app.callback()(_options)
    return app


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=lambda wanted: _print_version() if wanted else None,
        ),
    ] = False,
) -> None:
    pass


def _print_version() -> None:
    typer.echo(f"vea {__version__}")
    raise typer.Exit


def main() -> None:
    """Entry point: runs a command and turns what users can mend into one line."""
    try:
        build_app()()
    except VeaError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        command = f"pip install 'vea[{extra}]'"
        if extra == "detectron2":
            command = "vea install-detectron2"
        complain(f"'{error.name}' is not installed: {command}")
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        place = f"{error.filename}: " if error.filename else ""
        complain(f"cannot write or read: {place}{error.strerror}")
        sys.exit(1)
    except Stopped as stopped:
        complain(str(stopped))
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
