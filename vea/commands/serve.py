"""`vea serve`: an archive behind TorchServe, on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vea.commands.runtime import Runtime, RuntimeChoice
from vea.face_option import Faces, FacesChoice

if TYPE_CHECKING:
    from vea.serving.server import TorchServe

_PORTS = 8080, 8081, 8082
MAX_PORT = 65534  # TorchServe's limit
StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state",
        file_okay=False,
        help="Folder of the server. [default: ~/.local/state/vea/serve]",
    ),
]
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    archive: Annotated[
        Path | None,
        typer.Argument(
            help="A .mar file. Its code will run. [default: what was promoted last on this server, "
            "else the newest in ./model_store, else the shipped one]"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=MAX_PORT, help="Port for predictions.")] = _PORTS[
        0
    ],
    management_port: Annotated[
        int, typer.Option(min=1, max=MAX_PORT, help="Port for workers and new keys.")
    ] = _PORTS[1],
    metrics_port: Annotated[
        int, typer.Option(min=1, max=MAX_PORT, help="Port for Prometheus.")
    ] = _PORTS[2],
    state: StateFolder = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that score. [default: what suits the machine]"),
    ] = None,
    runtime: Runtime = RuntimeChoice.AUTO,
    faces: Faces = FacesChoice.ON,
    detach: Annotated[
        bool,
        typer.Option("--detach/--foreground", help="Return and leave the server running."),
    ] = False,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop",
            help="Stop a detached server: processes that do not end within 15 seconds are killed.",
        ),
    ] = False,
    token: Annotated[
        bool, typer.Option("--token", help="Print a valid key of a running server.")
    ] = False,
) -> None:
    """Serve a model with TorchServe, for this machine alone.

        vea serve

        vea serve --detach, and later: vea serve --stop

    It listens on 127.0.0.1 only and answers only requests that carry its key. Without --detach it
    runs until Ctrl-C.
    """
    from handler.values.runtimes import choose_runtime
    from vea.serving.ports import Ports
    from vea.serving.server import TorchServe
    from vea.serving.verification import verify
    from vea.store import newest_archive

    folder = (state or default_state()).expanduser().resolve()
    option = "" if state is None else f" --state {shlex.quote(str(folder))}"
    if stop:
        _stop(folder)
        return
    if token:
        typer.echo(running_server(folder).client.token())
        return
    TorchServe.require_none(folder)  # before it is blamed on a port
    archive = archive or _promoted(folder) or newest_archive()
    config = verify(archive).config
    if runtime is not RuntimeChoice.AUTO:  # told here rather than by a worker's log
        choose_runtime(runtime.value, compiled=config.compiled, device="cpu")
    with signals_as_interrupt():
        typer.echo(f"starting TorchServe with {archive} ...", err=True)
        ports = Ports.choose(port, management_port, metrics_port)
        server = TorchServe.start(
            archive, folder, ports=ports, workers=workers, runtime=runtime.value, faces=faces.on
        )
        try:
            typer.echo(_explanation(server, option, detach=detach))
            if not detach:
                _watch(server)
        except KeyboardInterrupt:
            typer.echo("stopping ...", err=True)
            server.stop()
        except BaseException:
            server.stop()
            raise


def _promoted(folder: Path) -> Path | None:
    """What this server is to go on with; None if nobody ever promoted anything on it."""
    from handler.values.errors import ArchiveError
    from vea.serving.errors import ServingError
    from vea.serving.history import History
    from vea.serving.server_directory import ServerDirectory
    from vea.serving.verification import verify

    event = History(folder).promoted()
    if event is None:
        return None
    kept = ServerDirectory.at(folder).models / event.file
    try:
        verify(kept, digest=event.digest)
    except ArchiveError as error:
        raise ServingError(
            f"{event.title} was served here last, but its archive cannot be used any more: "
            f"{error}; name an archive: vea serve ARCHIVE"
        ) from None
    typer.echo(f"going on with {event.title}, the default since {event.at}", err=True)
    return kept


def default_state() -> Path:
    """The state folder of those who name none."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "vea" / "serve"


def running_server(folder: Path) -> TorchServe:
    """The server in a state folder. Raises: ServingError: there is none."""
    from vea.serving.errors import ServingError
    from vea.serving.server import TorchServe

    server = TorchServe.attach(folder)
    if server is None:
        raise ServingError(f"no server runs in {folder}: start one with `vea serve`")
    return server


def _stop(folder: Path) -> None:
    from vea.serving.server import TorchServe

    server = TorchServe.attach(folder)
    if server is None:
        typer.echo(f"no server runs in {folder}")
        return
    server.stop()
    typer.echo(f"stopped the server for {server.model} {server.version}")


def _explanation(server: TorchServe, option: str, *, detach: bool) -> str:
    ports, place = server.ports, server.directory
    call = f"curl -H 'Authorization: Bearer {server.client.token()}'"
    end = f"vea serve --stop{option}" if detach else f"Ctrl-C, or vea serve --stop{option}"
    return f"""\
{server.model} {server.version} answers at {server.url}
(management {ports.management}, metrics {ports.metrics}; all on 127.0.0.1, reachable from here only)

Ask it about a photo (add -H 'X-Explain: true' and it says why, too):
  {call} -T photo.jpg {server.url}

The key is in {place.keys}
and expires after 60 minutes. A valid one at any time: vea serve --token{option}
Log:  {place.log}, and a line for each request in {place.access_log.name} beside it
Stop: {end}"""


def _watch(server: TorchServe) -> None:
    """Wait until the server is gone.

    Raises:
        ServingError: The server ended by itself, not through `vea serve --stop`.
    """
    from vea.serving.errors import ServingError

    while server.processes():
        time.sleep(1.0)
    if server.directory.record.exists():
        raise ServingError(f"TorchServe ended by itself; {server.directory.log} says why")


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """End on SIGTERM and on a closed terminal as on Ctrl-C, so that no server stays behind."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
