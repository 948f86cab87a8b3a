"""The typer application: the list of commands, and the one place where exceptions end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from txstore.cli import daemon, dump, history, listing, maintenance, names, plot, transfer
from txstore.cli.exits import ExitCode, complain, exit_code, mute_stdout
from txstore.errors import TxStoreError


class Commands(TyperGroup):
    """A command group whose errors are one line on stderr and an exit code, never a traceback."""

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
        code = self._run(args, *rest, **extra)
        if standalone:
            sys.exit(code)
        return code

    def _run(self, *given: Any, **extra: Any) -> int:
        extra["standalone_mode"] = False
        try:
            code = super().main(*given, **extra)
            sys.stdout.flush()
            return code if isinstance(code, int) else ExitCode.OK
        except TxStoreError as error:
            complain(str(error))
            return exit_code(error)
        except (KeyboardInterrupt, typer.Abort):
            complain("interrupted")
            return ExitCode.INTERRUPTED
        except OSError as error:
            complain(str(error))
            return ExitCode.FAILED
        except Exception as error:
            message = _usage_message(error)
            if message is None:
                raise  # a bug: its traceback is what a report needs
            if message:
                complain(message)
            return ExitCode.USAGE

    def invoke(self, ctx: Any) -> Any:
        """Run the callback and the command that ``ctx`` names; a reader that went away ends it quietly."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            mute_stdout()
            raise typer.Exit(ExitCode.PIPE) from None
        except KeyboardInterrupt:
            # typer would turn it into a silent exit code.
            complain("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _usage_message(error: Exception) -> str | None:
    # typer's usage errors have had three homes (click, a vendored click, typer.exceptions) but one shape.
    show = getattr(error, "format_message", None)
    if show is None:
        return None
    message = str(show())
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
