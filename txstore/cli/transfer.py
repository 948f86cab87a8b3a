"""``init``, ``import`` and ``export``: how data gets into a store and out of it."""

from __future__ import annotations

import os
import zipfile
from enum import StrEnum
from typing import Annotated, Any

import typer

from txstore.cli import refs
from txstore.cli.options import TRANSFER, AtOpt, BranchOpt, IndexOpt, JsonOpt, StoreArg, ThreadsOpt, example
from txstore.errors import InvalidInputError, NotFoundError

#: One of these lies at the root of every Zarr hierarchy.
ZARR_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray")


class Layout(StrEnum):
    """``export --layout``."""

    CHUNKS = "chunks"
    SHARDS = "shards"
    REFERENCES = "references"


class Profile(StrEnum):
    """``export --profile``."""

    NATIVE = "native"
    PORTABLE = "portable"


class ZarrFormat(StrEnum):
    """``export --zarr-format``."""

    V2 = "2"
    V3 = "3"


def init(root: StoreArg, index: IndexOpt = None, as_json: JsonOpt = False) -> None:
    """Create an empty store; its place must be absent or an empty directory."""
    from txstore.cli import access, output

    with access.opened(root, "x", index) as store:
        if as_json:
            output.emit_json({"store": root, **output.plain(store.info())})
        else:
            output.say(f"created an empty store in {root}")


def import_(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A Zarr v2 or v3 array or group.", show_default=False)],
    dst: Annotated[
        str, typer.Argument(metavar="DST", help="The store; created where there is none.", show_default=False)
    ],
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="Where to put it in the store.")] = "",
    branch: BranchOpt = refs.MAIN,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="The message of the commit.")
    ] = None,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Import a Zarr hierarchy, all of it in one commit."""
    from txstore.cli import access, output

    # Before the store is opened: a mistyped SRC must not leave an empty store behind.
    if "://" not in src:
        _require_zarr(src)
    with access.opened(dst, "a", index) as store, output.progress("importing", quiet=as_json) as progress:
        report = store.import_zarr(src, path=access.node_path(path), branch=branch, message=message, progress=progress)
    _finish(report, as_json)


def _require_zarr(src: str) -> None:
    if not os.path.exists(src):
        raise NotFoundError(f"there is nothing at {src}")
    if os.path.exists(os.path.join(src, "index.sqlite")):
        raise InvalidInputError(f"{src} is a store: 'txstore export' makes a Zarr hierarchy of it")
    if os.path.isdir(src) and not any(os.path.exists(os.path.join(src, name)) for name in ZARR_DOCUMENTS):
        raise NotFoundError(f"there is no Zarr hierarchy at {src}: it has none of {', '.join(ZARR_DOCUMENTS)}")
    if os.path.isfile(src) and not zipfile.is_zipfile(src):
        raise NotFoundError(f"there is no Zarr hierarchy at {src}: it is neither a directory nor a zip file")


def export(
    src: Annotated[str, typer.Argument(metavar="SRC", help="The store.", show_default=False)],
    dst: Annotated[
        str,
        typer.Argument(metavar="DST", help="The Zarr directory to make, or a file ending in .zip.", show_default=False),
    ],
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="Export this array or group only.")] = "",
    at: AtOpt = None,
    zarr_format: Annotated[ZarrFormat, typer.Option("--zarr-format", help="The version of Zarr.")] = ZarrFormat.V3,
    layout: Annotated[
        Layout, typer.Option("--layout", help="An object per chunk, or per shard; references are not available yet.")
    ] = Layout.CHUNKS,
    profile: Annotated[
        Profile, typer.Option("--profile", help="Every dtype as zarr-python writes it, or what all readers open.")
    ] = Profile.NATIVE,
    consolidated: Annotated[
        bool, typer.Option("--consolidated/--no-consolidated", help="Write consolidated metadata.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at DST.")] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Bring an earlier export at DST up to date.")
    ] = False,
    threads: ThreadsOpt = None,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Export a version as plain Zarr, which any reader opens without txstore."""
    from txstore.cli import access, output
    from txstore.cli.workers import pool

    with access.opened(src, "r", index) as store:
        version = None if at is None else refs.parse(store, at).snapshot(store).version
        with pool(threads) as executor, output.progress("exporting", quiet=as_json) as progress:
            report = store.export(
                dst,
                path=access.node_path(path),
                version=version,
                zarr_format=int(zarr_format.value),
                layout=layout.value,
                profile=profile.value,
                consolidated=consolidated,
                overwrite=overwrite,
                incremental=incremental,
                executor=executor,
                progress=progress,
            )
    _finish(report, as_json)


def _finish(report: Any, as_json: bool) -> None:
    from txstore.cli import output

    if as_json:
        output.emit_json(report)
        return
    facts = report.to_dict()
    notes = facts.pop("notes", ())
    output.record(facts)
    for note in notes:
        output.say(f"note: {note}")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("init", rich_help_panel=TRANSFER, epilog=example("txstore init survey"))(init)
    app.command("import", rich_help_panel=TRANSFER, epilog=example("txstore import dem.zarr survey --path terrain"))(
        import_
    )
    app.command(
        "export",
        rich_help_panel=TRANSFER,
        epilog=example(
            "txstore export survey survey.zarr",
            "txstore export survey dem.zip --path dem --at v1 --zarr-format 2",
        ),
    )(export)


__all__ = ["Layout", "Profile", "ZarrFormat", "export", "import_", "init", "register"]
