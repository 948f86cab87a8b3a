"""What commands print: JSON, tables, fields, and progress bars that only a terminal sees.

Results go to stdout, everything else to stderr, so that a pipe carries results only. Colours appear on terminals
alone and never under ``NO_COLOR``; a table that does not go to a terminal is never cut to a width.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from txstore.cli.exits import printable

if TYPE_CHECKING:
    from rich.console import Console


_OTHER = re.compile(r"[^\x00-\x7f]")


class Step(Protocol):
    """One report of progress, as the store gives it."""

    @property
    def done(self) -> float: ...

    @property
    def total(self) -> float | None: ...

    @property
    def unit(self) -> str: ...

    @property
    def label(self) -> str: ...


def plain(value: Any) -> Any:
    """``value`` as strict JSON: times as ISO 8601, bytes as hex, NaN and infinities as the strings that Zarr uses."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)  # an enum's number, not its name
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        return float(value)
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "tolist"):  # NumPy, which this module does not import
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def emit_json(value: Any) -> None:
    """Print ``value`` as the command's one JSON document."""
    encoder = json.JSONEncoder(indent=2, ensure_ascii=not unicode(sys.stdout), allow_nan=False)
    for part in encoder.iterencode(plain(value)):
        sys.stdout.write(part if part.isascii() else _OTHER.sub(_printable_json, part))
    sys.stdout.write("\n")


def _printable_json(character: re.Match[str]) -> str:
    # JSON itself lets through what moves the cursor in other encodings, and the marks that reverse text.
    return character[0] if character[0].isprintable() else json.dumps(character[0])[1:-1]


def unicode(stream: TextIO) -> bool:
    """Whether ``stream`` takes every character."""
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def console(stream: TextIO | None = None) -> Console:
    """A rich console on ``stream`` (stdout by default) that prints text as it is: no markup, no emoji, no wrapping."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str = "", style: str = "") -> None:
    """Print ``text`` on a line of its own, in ``style`` where there is a terminal."""
    line = printable(text, keep="\n\t")
    if style and sys.stdout.isatty():
        console().print(line, style=style)
    else:
        print(line)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print aligned columns, with a header; ``right`` names the columns that hold numbers."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(len(header), *(len(row[i]) for row in cells)) for i, header in enumerate(headers)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if header in right else cell.ljust(width)
            for header, cell, width in zip(headers, row, widths, strict=True)
        )
        return "  ".join(padded).rstrip()

    say(line(headers), style="bold")
    sys.stdout.writelines(f"{line(row)}\n" for row in cells)


def record(values: Mapping[str, Any]) -> None:
    """Print ``name: value`` lines, aligned; what is ``None`` is left out."""
    shown = {name.replace("_", " "): _show(name, value) for name, value in values.items() if value is not None}
    width = max((len(name) for name in shown), default=0)
    for name, text in shown.items():
        print(f"{name:<{width}}  {printable(text)}")


def _show(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and {"bytes", "nbytes"} & {*name.split("_")}:
        return human_bytes(value)
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(plain(value), ensure_ascii=False)


def human_bytes(count: int) -> str:
    """``count`` bytes for people: ``1.5 MiB (1,572,864 bytes)``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if abs(size) < 1024 or unit == "EiB":
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit} ({count:,} bytes)"
        size /= 1024
    raise AssertionError("unreachable")


def timestamp(moment: datetime) -> str:
    """``moment`` as ISO 8601 in UTC, to the microsecond, such as every ``--at`` takes back."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Callable[[Step], None] | None]:
    """A bar on stderr for as long as the block runs; ``None``, hence no bar, where stderr is no terminal.

    Yields
    ------
    callable or None
        What the ``progress=`` parameters of the store take.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(),
        console=console(sys.stderr),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None, amount="")

        def update(step: Step) -> None:
            description = printable(f"{label} {step.label}" if step.label else label)
            total = f"/{step.total:,}" if step.total is not None else ""
            amount = f"{step.done:,}{total} {step.unit}"
            bar.update(task, completed=step.done, total=step.total, description=description, amount=amount)

        yield update


__all__ = [
    "Step",
    "console",
    "emit_json",
    "human_bytes",
    "plain",
    "progress",
    "record",
    "say",
    "table",
    "timestamp",
    "unicode",
]
