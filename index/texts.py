"""Compiles every statement beforehand: ``python -m txstore.index.texts > index/sqlitetexts.py``.

A test compares that module with what this one makes.
"""

from __future__ import annotations

import textwrap

# Each of these describes statements.
from txstore.index import branches, commit, commitlog, engine, inserts, lookup, publication, segments, shaperows
from txstore.index.dialects import SQLiteDialect
from txstore.index.statement import Statement

_DESCRIBED_IN = (branches, commit, commitlog, engine, inserts, lookup, publication, segments, shaperows)

_HEAD = '''"""The statements of the index as text for SQLite, for lineages of one part.

Made by ``python -m txstore.index.texts``; not to be edited.
"""
# fmt: off

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[str, str]] = {
'''


def render() -> str:
    """The source of ``index/sqlitetexts.py``."""
    lines = [_HEAD]
    for name, statement in sorted(Statement.known.items()):
        expression = statement.build(1)
        reads_history = "branch0" in expression.compile().params
        text = " ".join(SQLiteDialect.compile(expression).split())
        pieces = textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False, drop_whitespace=False)
        lines.append(f'    "{name}/{int(reads_history)}": (\n')
        lines += ["        " + _quoted(piece) + "\n" for piece in pieces]
        lines.append("    ),\n")
    lines.append('}\n\n__all__ = ["TEXTS"]\n')
    return "".join(lines)


def _quoted(piece: str) -> str:
    # As ruff would have it.
    return f"'{piece}'" if '"' in piece else f'"{piece}"'


if __name__ == "__main__":
    print(render(), end="")
