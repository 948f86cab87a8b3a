"""The typer application: the list of commands, and the one place where exceptions end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from txstore.cli import daemon, dump, history, listing, maintenance, names, plot, transfer
from txstore.cli.advice import reworded
from txstore.cli.exits import (
    ExitCode,
    Failed,
    complain,
    complain_json,
    exit_code,
    fields_of,
    message_of,
    mute_stdout,
)
from txstore.errors import TxStoreError


class Commands(TyperGroup):
    """A command group whose errors are one line on stderr, or one JSON object, and an exit code; never a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order in which they were added, which is the order of a store's life."""
        return list(self.commands)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command. With ``standalone_mode`` (the default) the process exits with its code.

        Raises
        ------
        SystemExit
            At the end of every run in standalone mode.
        """
        standalone = extra.pop("standalone_mode", True)
        words = sys.argv[1:] if args is None else list(args)
        code = self._run(words, *rest, **extra)
        if standalone:
            sys.exit(code)
        return code

    def _run(self, words: list[str], *rest: Any, **extra: Any) -> int:
        extra["standalone_mode"] = False
        try:
            with _quiet_pipe():
                code = super().main(words, *rest, **extra)
            return code if isinstance(code, int) else ExitCode.OK
        except typer.Exit as done:
            return done.exit_code
        except Failed as failed:
            assert failed.__cause__ is not None
            return _report(failed.__cause__, failed.code, words)
        except typer.Abort as error:
            return _report(error, ExitCode.INTERRUPTED, words)
        except (TxStoreError, OSError) as error:
            return _report(error, exit_code(error), words)
        except Exception as error:
            message = _usage_message(error)
            if message is None:
                raise  # a bug: its traceback is what a report needs
            if message:
                _tell("UsageError", message, ExitCode.USAGE, {}, words)
            return ExitCode.USAGE

    def make_context(self, *given: Any, **extra: Any) -> Any:
        """Parse the options of the group; ``--help`` and ``--version`` print here."""
        with _quiet_pipe():
            return super().make_context(*given, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the callback and the command that ``ctx`` names."""
        try:
            with _quiet_pipe():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            # typer would turn it into a silent exit code.
            raise Failed(ExitCode.INTERRUPTED) from error


@contextmanager
def _quiet_pipe() -> Iterator[None]:
    """End quietly when the reader of the output goes away, be it only while the last of it is written."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # rich makes a SystemExit of it.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        mute_stdout()
        raise typer.Exit(ExitCode.PIPE) from None


def _report(error: BaseException, code: ExitCode, words: Sequence[str]) -> ExitCode:
    """Tell what ended the command that ``words`` call, and return its code."""
    if code == ExitCode.INTERRUPTED:
        _tell("KeyboardInterrupt", "interrupted", code, {}, words)
    else:
        message = reworded(message_of(error), words[0] if words else "")
        _tell(type(error).__name__, message, code, fields_of(error), words)
    return code


def _tell(kind: str, message: str, code: ExitCode, fields: dict[str, Any], words: Sequence[str]) -> None:
    # A command line that can't be parsed has no parameters yet, so the words themselves are asked.
    if "--json" in words:
        from txstore.cli.output import plain

        complain_json(kind, message, code, plain(fields))
    else:
        complain(message)


def _usage_message(error: Exception) -> str | None:
    # typer's usage errors have had three homes (click, a vendored click, typer.exceptions) but one shape.
    show = getattr(error, "format_message", None)
    if show is None:
        return None
    message = str(show()).replace("Value error, ", "")
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            print(message)
        return ""
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message.rstrip('.')} (see {context.command_path} --help)"


app = typer.Typer(
    name="txstore",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example:\n\ntxstore init survey && txstore import dem.zarr survey && txstore ls survey",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("txstore")
        except PackageNotFoundError:  # a checkout that is not installed
            number = "unknown"
        typer.echo(f"txstore {number}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A transactional, log-structured store for N-d arrays."""


for module in (transfer, listing, dump, plot, history, names, maintenance, daemon):
    module.register(app)

__all__ = ["app"]
