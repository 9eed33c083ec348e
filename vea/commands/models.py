"""`vea models`: which versions there are, and which of them a running server answers with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from handler.values.errors import VeaError
from vea.commands import compare
from vea.commands.serve import StateFolder, default_state, running_server
from vea.store import STORE
from vea.terminal import out, print_json

if TYPE_CHECKING:
    from vea.serving.verification import VerifiedArchive
    from vea.serving.versions import Version, Versions

_SHORT = 12  # characters of a digest

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Versions of a model: compare, promote, roll back, remove.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
    )
    group.command("list")(list_models)
    group.command("show")(show)
    group.command("promote")(promote)
    group.command("rollback")(rollback)
    group.command("remove")(remove)
    compare.register(group)
    app.add_typer(group, name="models")


def list_models(
    state: StateFolder = None,
    store: Annotated[Path, typer.Option(help="Folder of archives.")] = STORE,
    as_json: AsJson = False,
) -> None:
    """Archives in the model store, and what is served."""
    from vea.serving.server import TorchServe
    from vea.serving.versions import Versions

    folder = _folder(state)
    archives = [_stored(path) for path in sorted(store.glob("*.mar"))]
    server = TorchServe.attach(folder)
    served = [] if server is None else [_row(item) for item in Versions(server).served()]
    if as_json:
        running = None if server is None else {"model": server.model, "url": server.url}
        print_json(
            {"store": str(store), "archives": archives, "server": running, "versions": served}
        )
        return
    _show_store(store, archives)
    if server is None:
        out().print(f"no server runs in {folder}")
    else:
        _show_served(f"{server.model}, served at {server.url}", served)


def show(
    what: Annotated[str, typer.Argument(help="A .mar file, or a version that is served.")],
    state: StateFolder = None,
    as_json: AsJson = False,
) -> None:
    """The card of an archive or of a served version: what it was trained on, how well it does."""
    from vea.serving.verification import verify

    path = Path(what)
    if path.is_file() or path.suffix == ".mar":
        _show_card(verify(path), as_json)
        return
    versions = _versions(state)
    found = {item.served.version: item for item in versions.served()}
    if what not in found:
        raise VeaError(
            f"{what} is neither an archive nor a served version ({', '.join(sorted(found))})"
        )
    _show_card(verify(versions.files.folder / found[what].served.file), as_json)


def promote(
    archive: Annotated[Path, typer.Argument(help="A .mar file. Its code will run.")],
    digest: Annotated[
        str | None,
        typer.Option(help="Refuse any other archive: its SHA-256, or 12 characters of it or more."),
    ] = None,
    state: StateFolder = None,
) -> None:
    """Let a running server answer with another version, without one failed request.

    The archive is verified, copied, loaded beside the version that is served, and asked about the
    photos that come with the program. Only if every answer is right does it become the default;
    else it is taken away and the old version has never stopped.

        vea models promote runs/lite/vea-lite-3.1.mar --digest 4f0c2a91d7e3

    An archive holds the code that serves it, and that code runs with your rights: promote what you
    trust, and name its digest.
    """
    versions = _versions(state)
    before = versions.server.version
    verified = versions.promote(archive, digest=digest)
    typer.echo(f"{verified.title} is the default")
    if before != verified.config.version:
        typer.echo(
            f"version {before} still answers to its name; back to it: vea models rollback"
            f"{_option(state)}"
        )


def rollback(state: StateFolder = None) -> None:
    """Let a running server answer with the version that it answered with before."""
    versions = _versions(state)
    before = versions.server.version
    verified = versions.rollback()
    typer.echo(f"{verified.title} is the default again, in place of version {before}")


def remove(
    version: Annotated[str, typer.Argument(help="That is served, but not the default.")],
    state: StateFolder = None,
) -> None:
    """Stop serving a version and delete the server's copies of it.

    Your own archive stays where it is. The default version cannot be removed.
    """
    removed = _versions(state).remove(version)
    typer.echo(f"version {removed.served.version} ({_short(removed.digest)}) is gone")


def _versions(state: Path | None) -> Versions:
    from vea.serving.versions import Versions

    server = running_server(_folder(state))
    return Versions(server, on_step=lambda step: typer.echo(f"{step} ...", err=True))


def _folder(state: Path | None) -> Path:
    return (state or default_state()).expanduser().resolve()


def _option(state: Path | None) -> str:
    return "" if state is None else f" --state {state}"


def _stored(path: Path) -> dict[str, Any]:
    from handler.archive.files import read_card
    from handler.values.errors import ArchiveError

    document: dict[str, Any] = {"file": path.name, "bytes": path.stat().st_size}
    try:
        config, _, digest = read_card(path)
    except ArchiveError as error:
        return {**document, "refused": str(error)}
    return {**document, "name": config.name, "version": config.version, "digest": digest}


def _row(item: Version) -> dict[str, Any]:
    served = item.served
    return {
        "version": served.version,
        "digest": item.digest,
        "default": served.default,
        "workers": {"ready": served.ready, "all": len(served.statuses)},
        "loaded": served.started,
        "made_default": item.since,
        "waiting_requests": served.waiting,
    }


def _show_store(store: Path, archives: list[dict[str, Any]]) -> None:
    if not archives:
        out().print(f"no .mar in {store}")
        return
    table = Table(title=f"archives in {store}", title_justify="left", box=SIMPLE)
    for heading in ("file", "model", "version", "digest", "MB"):
        table.add_column(heading, overflow="fold")
    for row in archives:
        size = f"{row['bytes'] / 1e6:.1f}"
        if "refused" in row:
            table.add_row(row["file"], "[red]refused[/red]", "", row["refused"], size)
        else:
            table.add_row(row["file"], row["name"], row["version"], _short(row["digest"]), size)
    out().print(table)


def _show_served(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for heading in ("version", "digest", "default", "workers", "made default"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        workers = row["workers"]
        table.add_row(
            row["version"],
            _short(row["digest"]),
            "yes" if row["default"] else "",
            f"{workers['ready']} of {workers['all']} ready",
            _moment(row["made_default"]),
        )
    out().print(table)


def _show_card(archive: VerifiedArchive, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "name": archive.config.name,
                "version": archive.config.version,
                "digest": archive.digest,
                "network": archive.config.network.to_dict(),
                "selector": asdict(archive.config.selector),
                "card": archive.card,
            }
        )
        return
    console = out()
    console.print(f"{archive.config.name} {archive.config.version}")
    console.print(f"digest {archive.digest}; every file in it matches")
    console.print_json(json.dumps(archive.card), highlight=False)


def _short(digest: str | None) -> str:
    return digest[:_SHORT] if digest else "unknown"


def _moment(text: str | None) -> str:
    """``2026-11-24T21:37:30.949Z`` as people write it, UTC."""
    return text[:16].replace("T", " ") if text else "never"
