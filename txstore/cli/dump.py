"""``dump``: metadata documents and values as text, as ncdump does for NetCDF."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from txstore.cli.options import DATA, AtOpt, IndexOpt, JsonOpt, PathArg, StoreArg, example
from txstore.cli.selections import Axis
from txstore.errors import InvalidInputError

if TYPE_CHECKING:
    from txstore.array import Array
    from txstore.group import Group

#: Values held at a time while printing: what bounds the memory of a dump.
BLOCK_CELLS = 1 << 18
WIDTH = 100


def dump(
    root: StoreArg,
    path: PathArg = "",
    at: AtOpt = None,
    sel: Annotated[
        str | None, typer.Option("--sel", metavar="INDEX", help="The cells, as in NumPy: '0,2:10,...'. Default: all.")
    ] = None,
    metadata_only: Annotated[bool, typer.Option("--metadata", "-m", help="Leave out the values.")] = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Print the Zarr v3 metadata of a group and all below it, or of an array with its values."""
    from txstore.array import Array
    from txstore.cli import access, output, refs, selections
    from txstore.cli.listing import find

    items = (...,) if sel is None else selections.parse(sel)
    with access.opened(root, "r", index) as store:
        snap = refs.parse(store, at).snapshot(store)
        node = find(snap, path)
        documents = dict(_documents(node))
        if not isinstance(node, Array):
            if sel is not None:
                raise InvalidInputError(f"--sel needs an array; {path or '/'!r} is a group")
            axes = None
        else:
            axes = None if metadata_only else selections.resolve(items, node.shape)
        if as_json:
            values = None if axes is None or not isinstance(node, Array) else _values(node, axes)
            output.emit_json({"version": snap.version, "metadata": documents, "values": values})
            return
        for name, document in documents.items():
            output.say(f"// {name or '/'} at version {snap.version}", style="dim")
            output.say(json.dumps(document, indent=2, ensure_ascii=False))
        if axes is not None and isinstance(node, Array):
            _print_values(node, axes)


def _documents(node: Array | Group) -> Iterator[tuple[str, dict[str, Any]]]:
    from txstore.array import Array

    yield node.path, document(node)
    if not isinstance(node, Array):
        for _, member in node.members():
            yield member.path, document(member)


def document(node: Array | Group) -> dict[str, Any]:
    """The Zarr v3 metadata document of ``node``."""
    return node.metadata


def _values(array: Array, axes: Sequence[Axis]) -> dict[str, Any]:
    import numpy as np

    from txstore.cli import selections

    cells = array[selections.index(axes)]
    # Neither times nor bytes have a form in JSON; both are written as in the text.
    if array.dtype.kind in "mM":
        data = cells.astype(str).tolist()
    elif array.dtype.kind == "S":
        data = np.strings.decode(cells, "latin-1").tolist()
    else:
        data = cells.tolist()
    return {
        "path": array.path,
        "selection": selections.show(axes),
        "shape": selections.shape_of(axes),
        "data": data,
    }


def _print_values(array: Array, axes: Sequence[Axis]) -> None:
    from txstore.cli import output, selections

    shape = selections.shape_of(axes)
    output.say(f"// values {selections.show(axes)}, shape {shape}", style="dim")
    for block in blocks(axes, BLOCK_CELLS):
        cells = array.read(selections.index(block))
        for label, row in _rows(block, cells):
            prefix = f"{label}  " if label else ""
            sys.stdout.writelines(wrap((text(value) for value in row), prefix))


def blocks(axes: Sequence[Axis], cells: int) -> Iterator[tuple[Axis, ...]]:
    """``axes`` cut, in C order, into parts of at most ``cells`` cells."""
    size = 1
    for axis in axes:
        size *= 1 if isinstance(axis, int) else len(axis)
    if size == 0:
        return
    long = next((i for i, axis in enumerate(axes) if not isinstance(axis, int) and len(axis) > 1), None)
    if size <= cells or long is None:
        yield tuple(axes)
        return
    span = axes[long]
    assert isinstance(span, range)
    # Several steps of the first long axis at once where they fit; else one at a time, cut further along the rest.
    count = max(1, cells * len(span) // size)
    for start in range(0, len(span), count):
        yield from blocks([*axes[:long], span[start : start + count], *axes[long + 1 :]], cells)


def _rows(axes: Sequence[Axis], cells: Any) -> Iterator[tuple[str, Iterable[Any]]]:
    """The lines of the last axis in ``cells``, each with the index of its first cell."""
    import numpy as np

    ranges = [axis for axis in axes if not isinstance(axis, int)]
    values = np.asarray(cells)
    if not ranges:
        yield "", [values[()]]
        return
    for outer in np.ndindex(*(len(axis) for axis in ranges[:-1])):
        where = iter([axis[i] for axis, i in zip(ranges, outer, strict=False)] + [ranges[-1][0]])
        label = ", ".join(str(axis) if isinstance(axis, int) else str(next(where)) for axis in axes)
        yield f"[{label}]", values[outer]


def text(value: Any) -> str:
    """One value, such that it can be read back: the shortest digits for floats, ISO 8601 for times."""
    if isinstance(value, (bytes, str)):
        return json.dumps(value.decode("latin-1") if isinstance(value, bytes) else str(value))
    if hasattr(value, "dtype") and value.dtype.names:
        return f"({', '.join(text(value[name]) for name in value.dtype.names)})"
    if getattr(value, "ndim", 0):
        return f"[{', '.join(text(item) for item in value)}]"
    return str(value)


def wrap(words: Iterable[str], prefix: str) -> Iterator[str]:
    """Lines of comma-separated ``words``, the first behind ``prefix`` and the rest indented by as much."""
    line, empty = prefix, True
    for word in words:
        if not empty and len(line) + len(word) + 2 > WIDTH:
            yield f"{line},\n"
            line, empty = " " * len(prefix), True
        line += word if empty else f", {word}"
        empty = False
    yield f"{line}\n"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        "dump",
        rich_help_panel=DATA,
        epilog=example("txstore dump survey -m", "txstore dump survey dem --sel='0:4, 100' --at v1"),
    )(dump)


__all__ = ["blocks", "document", "dump", "register", "text", "wrap"]
