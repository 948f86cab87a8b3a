"""``daemon``: compaction, expiry and vacuum in the background, on a policy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from txstore.cli.exits import ExitCode
from txstore.cli.options import MAINTENANCE, IndexOpt, JsonOpt, StoreArg, example
from txstore.errors import InvalidInputError


class LogFormat(StrEnum):
    """``daemon --log-format``."""

    TEXT = "text"
    JSON = "json"


def daemon(
    root: StoreArg,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Between two rounds: 10s, 5m, or seconds.")
    ] = "10s",
    once: Annotated[bool, typer.Option("--once", help="Run one round, then exit.")] = False,
    min_fragments: Annotated[
        int, typer.Option("--min-fragments", min=1, metavar="N", help="Compact a partition from N fragments on.")
    ] = 8,
    keep_last: Annotated[
        int | None,
        typer.Option("--keep-last", min=1, metavar="N", help="Expire all but the newest N versions. Default: never."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Expire versions older than 30d, 12h, ... Default: never."),
    ] = None,
    rate_limit: Annotated[
        float | None,
        typer.Option("--rate-limit", min=0.001, max=1e9, metavar="MB/S", help="Write no faster than that."),
    ] = None,
    vacuum_interval: Annotated[
        str, typer.Option("--vacuum-interval", metavar="TIME", help="Between two vacuums: 1h, 30m, or seconds.")
    ] = "1h",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port", min=0, max=65535, metavar="PORT", help="Serve Prometheus metrics on this port; 0: any."
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option("--metrics-host", metavar="HOST", help="The address to serve them on.")
    ] = "127.0.0.1",
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="How to write the log on stderr.")
    ] = LogFormat.TEXT,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Keep a store compacted, expired and vacuumed until SIGTERM or Ctrl-C; several may run at once."""
    from txstore.cli import access, output, refs
    from txstore.compaction.daemon import Daemon, Policy

    policy = Policy(
        interval_s=_seconds(interval),
        min_fragments=min_fragments,
        keep_last=keep_last,
        older_than_s=None if older_than is None else refs.duration(older_than).total_seconds(),
        rate_limit_bytes_s=None if rate_limit is None else round(rate_limit * 1e6),
        vacuum_interval_s=_seconds(vacuum_interval),
        metrics_port=metrics_port,
        metrics_host=metrics_host,
    )
    with access.opened(root, "r+", index) as store:
        report = Daemon(store, policy, log_format="json" if as_json else log_format.value).run(once=once)
    if as_json:
        output.emit_json(report)
    elif once:
        output.record(report.to_dict())
    if once and report.errors:
        raise typer.Exit(ExitCode.FAILED)


def _seconds(text: str) -> float:
    from txstore.cli import refs

    try:
        seconds = float(text)
    except ValueError:
        return refs.duration(text).total_seconds()
    if not 0 <= seconds < 1e9:
        raise InvalidInputError(f"{text!r} is no number of seconds")
    return seconds


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        "daemon",
        rich_help_panel=MAINTENANCE,
        epilog=example(
            "txstore daemon survey --once",
            "txstore daemon survey --interval 1m --older-than 30d --rate-limit 50 --metrics-port 9090",
        ),
    )(daemon)


__all__ = ["LogFormat", "daemon", "register"]
