"""The statements that are compiled beforehand, and that they run as SQLAlchemy would run them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import txstore
from txstore.index import texts
from txstore.index.branches import Lineage
from txstore.index.dialects import SQLiteDialect
from txstore.index.sqlitetexts import TEXTS
from txstore.index.statement import Statement, bound

SOURCE = Path(__file__).resolve().parent.parent / "index" / "sqlitetexts.py"


def test_the_texts_are_those_of_the_statements() -> None:
    assert SOURCE.read_text() == texts.render(), "run: python -m txstore.index.texts > index/sqlitetexts.py"


def test_every_statement_is_compiled_beforehand() -> None:
    assert {key.rpartition("/")[0] for key in TEXTS} == set(Statement.known)


@pytest.mark.parametrize("parts", [2, 3])
def test_a_longer_lineage_is_compiled_when_it_is_met(parts: int) -> None:
    statement = Statement.known["shapes"]
    text = statement.text(SQLiteDialect, parts)  # type: ignore[arg-type]
    assert f":branch{parts - 1}" in text and f":branch{parts}" not in text


def test_lists_are_written_out() -> None:
    text, values = bound(TEXTS["blobs/0"], {"uuids": [b"a", b"b"]}, None, -1, SQLiteDialect)  # type: ignore[arg-type]
    assert text.endswith("IN (:uuids_0, :uuids_1)") and values == {"uuids_0": b"a", "uuids_1": b"b"}


def test_a_lineage_brings_its_parameters() -> None:
    _, values = bound("", {"node": 3}, Lineage(((2, 9), (0, 4))), 1, SQLiteDialect)  # type: ignore[arg-type]
    assert values == {"node": 3, "after": 1, "branch0": 2, "upto0": 9, "branch1": 0, "upto1": 4}


def test_what_came_since_is_found_by_an_index(tmp_path: Path) -> None:
    """Checking for conflicts must not cost what the array holds."""
    txstore.open(tmp_path / "store").close()
    with sqlite3.connect(tmp_path / "store" / "index.sqlite") as connection:
        values = {"node": 1, "branch0": 0, "upto0": 9, "after": 8}
        for name in ("fragments since/1", "touched since/1", "nodes changed/1"):
            plan = connection.execute("EXPLAIN QUERY PLAN " + TEXTS[name], values).fetchall()
            assert "version>?" in plan[0][3], plan


def test_reading_committing_and_compacting_do_not_load_sqlalchemy(tmp_path: Path) -> None:
    with txstore.open(tmp_path / "store") as store, store.transaction() as tx:
        tx.create_array("a", data=np.arange(10), chunks=(4,))
    script = (
        "import sys, txstore, numpy as np\n"
        f"store = txstore.open({str(tmp_path / 'store')!r}, mode='r+')\n"
        "assert store['a'][3] == 3\n"
        "with store.transaction() as tx:\n"
        "    tx['a'][2:5] = 7\n"
        "    tx['a'].attrs['units'] = 'm'\n"
        "    tx['a'].append(np.arange(3))\n"
        "assert store.compact().partitions == 1\n"
        "assert store['a'][:].tolist() == [0, 1, 7, 7, 7, 5, 6, 7, 8, 9, 0, 1, 2]\n"
        "store.close()\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'sqlalchemy', 'zarr', 'typer', 'rich', 'matplotlib', 'asyncio'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
