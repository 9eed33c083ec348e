"""`vea web`: the page and the gateway, in front of a TorchServe that runs or is started for it."""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vea.commands.serve import StateFolder

if TYPE_CHECKING:
    from vea.serving.server import TorchServe
    from vea.web.keys import KeyRing

_PORT = 8000
_WATCH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("web")(web)


def web(
    archive: Annotated[
        Path | None,
        typer.Argument(
            help="A .mar file, where no server runs yet. "
            "[default: newest in ./model_store, else the shipped one]"
        ),
    ] = None,
    state: StateFolder = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")
    ] = _PORT,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            help="File of API keys, one line each. Needed for any address but this machine's own."
        ),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print a new API key and its line, and end."),
    ] = None,
    max_waiting: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of requests that wait for a model; further ones get 503."
        ),
    ] = 64,
    seconds: Annotated[
        float, typer.Option(min=1.0, help="Timeout of a model's answer, in seconds.")
    ] = 60.0,
    old_max_waiting: Annotated[
        int | None, typer.Option("--most-waiting", min=1, hidden=True)
    ] = None,  # the name of --max-waiting in earlier versions
) -> None:
    """Serve a page to try a model, and predictions without TorchServe's keys.

        vea web

        vea web --new-key phone-app, then: vea web --host 0.0.0.0 --api-keys FILE

    It uses the server that `vea serve` runs; where there is none, it starts one and stops it at the
    end.
    """
    from vea.commands.serve import default_state, signals_as_interrupt
    from vea.web.keys import KeyRing
    from vea.web.keys import new_key as make_key

    if new_key is not None:
        key, line = make_key(new_key)
        typer.echo(f"The key, shown this once:\n  {key}\nIts line for the file of keys:\n  {line}")
        return
    keys = KeyRing(api_keys) if api_keys is not None else None
    if keys is None and not _is_loopback(host):
        raise typer.BadParameter(
            f"{host} can be reached from other machines, so API keys are needed: make one with "
            "`vea web --new-key NAME`, put its line into a file, and name it with --api-keys"
        )
    folder = (state or default_state()).expanduser().resolve()
    with signals_as_interrupt():
        try:
            with _torchserve(folder, archive):
                _run(folder, keys, host, port, old_max_waiting or max_waiting, seconds)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may lead anywhere


@contextmanager
def _torchserve(folder: Path, archive: Path | None) -> Iterator[TorchServe]:
    from vea.serving.errors import ServingError
    from vea.serving.server import TorchServe
    from vea.store import newest_archive

    running = TorchServe.attach(folder)
    if running is not None:
        if archive is not None:
            raise ServingError(
                f"a server for {running.model} already runs in {folder}: leave out {archive}, or "
                "choose another --state"
            )
        typer.echo(f"using the server for {running.model} {running.version} in {folder}", err=True)
        yield running
        return
    archive = archive or newest_archive()
    typer.echo(f"starting TorchServe with {archive} ...", err=True)
    started = TorchServe.start(archive, folder)
    try:
        with _ending_with(started):
            yield started
    finally:
        # Nobody watches any more: this end of TorchServe is no surprise.
        typer.echo("stopping TorchServe ...", err=True)
        started.stop()


@contextmanager
def _ending_with(server: TorchServe) -> Iterator[None]:
    """End this process too if ``server`` ends by itself, so that a supervisor starts both anew.

    Raises:
        ServingError: The server ended by itself.
    """
    from vea.serving.errors import ServingError

    over, gone = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH_SECONDS):
            if not server.processes() and not over.is_set():
                gone.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, name="watch", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if gone.is_set():
            raise ServingError(
                f"TorchServe ended by itself; {server.directory.log} says why"
            ) from None
        raise
    finally:
        over.set()


def _run(
    folder: Path, keys: KeyRing | None, host: str, port: int, max_waiting: int, seconds: float
) -> None:
    from handler.telemetry import start_telemetry
    from vea.serving.errors import ServingError
    from vea.serving.server import TorchServe
    from vea.web.application import Limits, build
    from vea.web.server import listen, serve
    from vea.web.upstream import TorchServeUpstream

    limits = Limits(body=_body_limit(folder), asking=max_waiting, answer=seconds)
    upstream = TorchServeUpstream(lambda: TorchServe.attach(folder), max_connections=max_waiting)
    telemetry = start_telemetry("vea-web")
    app = build(upstream, keys=keys, limits=limits, telemetry=telemetry)
    try:
        listener = listen(host, port)
    except OSError as error:
        raise ServingError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port"
        ) from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        typer.echo(_explanation(url, keyed=keys is not None))
        try:
            serve(app, listener, log_config=LOG)
        finally:
            telemetry.close()


def _body_limit(folder: Path) -> int:
    """What the running TorchServe takes; more would only be refused later."""
    from vea.serving.server_directory import ServerDirectory
    from vea.web.application import Limits

    for line in ServerDirectory.at(folder).settings.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "max_request_size":
            return int(value)
    return Limits().body


def _explanation(url: str, *, keyed: bool) -> str:
    key = "-H 'Authorization: Bearer KEY' " if keyed else ""
    return f"""\
Open {url}/ in a browser, or ask about a photo:
  curl {key}-T photo.jpg {url}/predictions/MODEL
Models: {url}/models   Description: {url}/openapi.json   Stop: Ctrl-C"""


LOG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": "vea.web.request_context.RequestIdFilter"}},
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)-7s %(name)s [%(request_id)s] %(message)s"}
    },
    "handlers": {
        "out": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request"]}
    },
    "loggers": {
        "uvicorn": {"handlers": ["out"], "level": "WARNING", "propagate": False},
        "vea.web": {"handlers": ["out"], "level": "INFO", "propagate": False},
    },
}
