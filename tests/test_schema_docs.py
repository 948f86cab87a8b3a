"""docs/index-schema.md describes what ``index/schema.py`` makes: every table, column and index, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from txstore.index import schema

PAGE = Path(__file__).resolve().parent.parent / "docs" / "index-schema.md"

TYPES = {"SmallInteger": "int16", "Integer": "int32", "BigInteger": "int64", "Text": "text"}

#: Explained once, above all tables.
RECURRING = {"node", "partition", "branch", "version"}


def sections() -> dict[str, str]:
    """The text below each heading of the chapter "Tables", by the heading."""
    chapter = re.search(r"^## Tables\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert chapter is not None
    parts = re.split(r"^### (.+)\n", chapter[1], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section: str) -> list[tuple[str, str]]:
    """(column, type) of each row of the section's table that begins with ``column``."""
    lines = section.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| column |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, kind, meaning = (cell.strip() for cell in line.strip("|").split("|", 2))
        assert meaning or name in RECURRING, f"the page does not say what {name} is"
        rows.append((name, kind))
    return rows


def described(column: sa.Column[Any]) -> tuple[str, str]:
    """A column as the page has to name it."""
    kind = column.type
    if isinstance(kind, sa.LargeBinary):
        text = "bytes" if kind.length is None else f"bytes({kind.length})"
    else:
        text = TYPES[type(kind).__name__]
    return column.name, text + (", key" if column.primary_key else ", null" if column.nullable else "")


def test_every_table_is_described() -> None:
    assert list(sections()) == list(schema.metadata.tables)


@pytest.mark.parametrize("table", schema.metadata.tables.values(), ids=lambda table: str(table.name))
def test_every_column_is_described(table: sa.Table) -> None:
    assert documented(sections()[table.name]) == [described(column) for column in table.columns]


@pytest.mark.parametrize("table", schema.metadata.tables.values(), ids=lambda table: str(table.name))
def test_every_index_is_described(table: sa.Table) -> None:
    text = "".join(re.findall(r"^Index(?:es)? (.*)$", sections()[table.name], re.MULTILINE))
    found = {
        name: tuple(column.strip() for column in columns.split(","))
        for name, columns in re.findall(r"`(\w+)`: ([\w, ]+)", text)
    }
    assert found == {str(index.name): tuple(index.columns.keys()) for index in table.indexes}


def test_what_is_unique_is_said() -> None:
    rows = {line.split("|")[1].strip(): line for line in sections()["commits"].splitlines() if line.startswith("| ")}
    unique = {column.name for table in schema.metadata.tables.values() for column in table.columns if column.unique}
    assert unique == {name for name, line in rows.items() if "unique" in line}


def test_format_is_said() -> None:
    assert f"| format | int32 | {schema.FORMAT}." in sections()["store"]
