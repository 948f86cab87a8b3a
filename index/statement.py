"""Statements that are put together once: SQLAlchemy Core describes them, their text is what runs.

To build a statement and to compile it costs several times what SQLite takes to run it. Each statement of a hot path is
therefore compiled once for a dialect; for SQLite that has been done beforehand, in :mod:`txstore.index.sqlitetexts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from txstore.index.sql import sa

if TYPE_CHECKING:
    from txstore.index.branches import Lineage
    from txstore.index.dialects import SQLiteDialect

_LIST = re.compile(r"__\[POSTCOMPILE_(\w+)\]")


class Statement:
    """A statement with named parameters.

    Parameters
    ----------
    name : str
        Its name among all statements.
    build : callable
        Puts it together, given the number of parts of the lineage that it reads on (see :func:`visible`); 0 for one
        that reads on none.

    Notes
    -----
    A parameter may be a list where the statement says ``in_(sa.bindparam(..., expanding=True))``.
    """

    #: All statements, by name.
    known: ClassVar[dict[str, Statement]] = {}

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Callable[[int], sa.ClauseElement]) -> None:
        self.name = name
        self.build = build
        assert name not in self.known, name
        self.known[name] = self

    def text(self, dialect: SQLiteDialect, parts: int) -> str:
        """The text, as it was compiled the first time."""
        key = f"{self.name}/{parts}"
        text = dialect.texts.get(key)
        if text is None:
            text = dialect.texts[key] = dialect.compile(self.build(parts))
        return text


#: How many values a list of parameters takes at most; SQLite allows 32,766 in a statement.
_BATCH = 500


def batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut values for a list of parameters."""
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]


def bound(
    text: str, values: Mapping[str, Any], seen: Lineage | None, after: int, dialect: SQLiteDialect
) -> tuple[str, Mapping[str, Any]]:
    """A text and its parameters, with those of the lineage, and with lists written out."""
    if seen is not None:
        values = {**values, **lineage_values(seen, after)}
    if "__[" in text:
        flat = dict(values)

        def written_out(match: re.Match[str]) -> str:
            name = match[1]
            items: Sequence[Any] = flat.pop(name)
            names = [f"{name}_{number}" for number in range(len(items))]
            flat.update(zip(names, items, strict=True))
            return ", ".join([dialect.parameter(one) for one in names])

        return _LIST.sub(written_out, text), flat
    return text, values


def visible(table: sa.FromClause, parts: int) -> sa.ColumnElement[bool]:
    """The condition that a row is seen on a lineage of so many parts and came after a version.

    The parameters are ``branch0``, ``upto0`` and so on, and ``after``: see :func:`lineage_values`.
    """
    return sa.or_(
        *[
            sa.and_(
                table.c.branch == sa.bindparam(f"branch{part}"),
                table.c.version <= sa.bindparam(f"upto{part}"),
                table.c.version > sa.bindparam("after"),
            )
            for part in range(parts)
        ]
    )


def lineage_values(seen: Lineage, after: int) -> dict[str, int]:
    """The parameters of :func:`visible`; ``after`` is exclusive, and -1 for everything."""
    values = {"after": after}
    for part, (branch, upto) in enumerate(seen.parts):
        values[f"branch{part}"] = branch
        values[f"upto{part}"] = upto
    return values


__all__ = ["Statement", "batches", "bound", "lineage_values", "visible"]
