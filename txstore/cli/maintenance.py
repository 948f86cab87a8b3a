"""``compact``, ``expire``, ``vacuum``, ``upgrade``, ``verify``: care by hand; the daemon does the first three."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from txstore.cli import refs
from txstore.cli.exits import ExitCode
from txstore.cli.options import (
    MAINTENANCE,
    BranchOpt,
    DryRunOpt,
    IndexOpt,
    JsonOpt,
    PathArg,
    StoreArg,
    ThreadsOpt,
    example,
)
from txstore.errors import InvalidInputError

if TYPE_CHECKING:
    from datetime import datetime, timedelta


def compact(
    root: StoreArg,
    path: PathArg = "",
    branch: BranchOpt = refs.MAIN,
    dry_run: DryRunOpt = False,
    threads: ThreadsOpt = None,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Merge what was written into whole chunks, so that reads touch less. No version reads differently after it."""
    from txstore.cli import access, output
    from txstore.cli.workers import pool

    with (
        access.opened(root, "r" if dry_run else "r+", index) as store,
        pool(threads) as executor,
        output.progress("compacting", quiet=as_json) as progress,
    ):
        report = store.compact(
            access.node_path(path), branch=branch, executor=executor, dry_run=dry_run, progress=progress
        )
    _finish(report, as_json)


def expire(
    root: StoreArg,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="A duration such as 30d or 12h, or a time.")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", min=1, metavar="N", help="Keep the newest N versions.")
    ] = None,
    dry_run: DryRunOpt = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Give up old versions. What either rule keeps stays, and so do heads, tags and what is being read."""
    from txstore.cli import access, output

    if older_than is None and keep_last is None:
        raise InvalidInputError("say what to keep: --older-than AGE, --keep-last N, or both")
    limit: timedelta | datetime | None = None if older_than is None else refs.age(older_than)
    with access.opened(root, "r+", index) as store, output.progress("expiring", quiet=as_json):
        report = store.expire(older_than=limit, keep_last=keep_last, dry_run=dry_run)
    _finish(report, as_json)


def vacuum(root: StoreArg, dry_run: DryRunOpt = False, index: IndexOpt = None, as_json: JsonOpt = False) -> None:
    """Delete the bytes that no version, tag or branch needs any more."""
    from txstore.cli import access, output

    with access.opened(root, "r+", index) as store, output.progress("vacuuming", quiet=as_json):
        report = store.vacuum(dry_run=dry_run)
    _finish(report, as_json)


def verify(
    root: StoreArg, path: PathArg = "", threads: ThreadsOpt = None, index: IndexOpt = None, as_json: JsonOpt = False
) -> None:
    """Read and check every byte and every row of the index; exits with 5 when something is wrong."""
    from txstore.cli import access, advice, output
    from txstore.cli.workers import pool

    with (
        access.opened(root, "r", index) as store,
        pool(threads) as executor,
        output.progress("verifying", quiet=as_json) as progress,
    ):
        found = store.verify(access.node_path(path), executor=executor, progress=progress)
    problems = [replace(problem, message=advice.without_verify(problem.message)) for problem in found.problems]
    report = replace(found, problems=tuple(problems))
    steps = advice.after_verify(problem.kind for problem in problems)
    if as_json:
        output.emit_json(report.to_dict() | {"next": steps})
    else:
        told = ("problems", "notices")
        output.record({name: value for name, value in report.to_dict().items() if name not in told})
        for problem in problems:
            output.say(f"problem: {problem}", style="red")
        for notice in report.notices:
            output.say(f"notice: {notice}")
        for step in steps:
            output.say(f"next: {step}")
    if not report.ok:
        raise typer.Exit(ExitCode.DAMAGED)


def upgrade(root: StoreArg, as_json: JsonOpt = False) -> None:
    """Bring a store of an older txstore to the format of this one, all or nothing; older ones can't read it then."""
    from txstore.cli import output
    from txstore.index.migrations import upgrade_store

    before, now = upgrade_store(root)
    report = {"before": before, "format": now}
    if as_json:
        output.emit_json(report)
    else:
        output.record(report)


def _finish(report: Any, as_json: bool) -> None:
    from txstore.cli import output

    if as_json:
        output.emit_json(report)
    else:
        output.record(report.to_dict())


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "compact",
        rich_help_panel=MAINTENANCE,
        epilog=example("txstore compact survey", "txstore compact survey dem --dry-run --json"),
    )(compact)
    app.command(
        "expire", rich_help_panel=MAINTENANCE, epilog=example("txstore expire survey --older-than 30d --keep-last 100")
    )(expire)
    app.command("vacuum", rich_help_panel=MAINTENANCE, epilog=example("txstore vacuum survey --dry-run"))(vacuum)
    app.command("upgrade", rich_help_panel=MAINTENANCE, epilog=example("txstore upgrade survey"))(upgrade)
    app.command("verify", rich_help_panel=MAINTENANCE, epilog=example("txstore verify survey && echo sound"))(verify)


__all__ = ["compact", "expire", "register", "upgrade", "vacuum", "verify"]
