"""From an older format to this one: an Alembic script on a real file, all of it or nothing, and one at a time.

Format 1 is the first; the format 0 of these tests is made up. Its step changes a table in every way that SQLite makes
hard, so that those of later formats may.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, put
from scripts import process, says, tell

import txstore
from txstore.errors import FormatError, StorageError, StoreNotFoundError, TxStoreError
from txstore.index.format import FORMAT
from txstore.index.migrations import STEPS, upgrade_store
from txstore.locks import FileLock

#: From a store of this format to one of format 0, by hand.
DOWN = """
DROP TABLE pins;
DROP INDEX node_versions_by_version;
ALTER TABLE commits DROP COLUMN author;
ALTER TABLE segments RENAME COLUMN size TO extent;
UPDATE store SET created_at = created_at / 1000, format = 0;
"""

#: And up again: a script as ``alembic revision`` makes them, but for its numbers.
SCRIPT = '''
"""commits have authors, segments have sizes, processes have pins

Revision ID: 1
"""
from alembic import op
import sqlalchemy as sa


def upgrade():
    op.create_table(
        "pins",
        sa.Column("holder", sa.LargeBinary(16), primary_key=True),
        sa.Column("branch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
    )
    op.create_index("node_versions_by_version", "node_versions", ["version"])
    op.add_column("commits", sa.Column("author", sa.Text, nullable=True))
    # Copied, for it has no row id, and the copy shall have none either.
    before = sa.Table("segments", sa.MetaData(), autoload_with=op.get_bind(), sqlite_with_rowid=False)
    with op.batch_alter_table("segments", copy_from=before) as batch:
        batch.alter_column("extent", new_column_name="size")
    op.execute("UPDATE store SET created_at = created_at * 1000")
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of format 0."""
    root = tmp_path / "store"
    with txstore.open(root, inline_bytes=0) as store:
        create(store, "a", np.arange(1000), chunks=(100,))
        put(store, "a", np.s_[:10], 7, message="seven")
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
        connection.executescript(DOWN)
    return root


@pytest.fixture
def script(tmp_path: Path) -> Callable[[Any], None]:
    """The step, from a file."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    spec = importlib.util.spec_from_file_location("script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda op: module.upgrade()


def dump(root: Path) -> list[str]:
    """All there is, tables and rows."""
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
        return list(connection.iterdump())


def tables(root: Path) -> dict[str, Any]:
    """What the tables are, whatever order their columns stand in."""
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:

        def rows(pragma: str) -> list[Any]:
            return connection.execute(f"PRAGMA {pragma}").fetchall()

        return {
            name: (
                {(column, kind, null, bool(key)) for _, column, kind, null, _, key in rows(f"table_info({name})")},
                {
                    (unique, tuple(column for *_, column in rows(f"index_info({index})")))
                    for _, index, unique, *_ in rows(f"index_list({name})")
                },
                without_rowid,
            )
            for _, name, kind, _, without_rowid, _ in rows("table_list")
            if kind == "table" and not name.startswith("sqlite_")
        }


def test_an_older_store_is_upgraded(tmp_path: Path, root: Path, script: Callable[[Any], None]) -> None:
    txstore.open(tmp_path / "new").close()
    assert tables(root) != tables(tmp_path / "new")
    held = []

    def step(op: Any) -> None:
        held.append(FileLock(root / "locks" / "commit").held)
        script(op)

    assert upgrade_store(root, steps={1: step}) == (0, FORMAT)
    assert held == [True]
    assert tables(root) == tables(tmp_path / "new")
    with txstore.open(root, mode="r+") as store:
        assert store.info()["format"] == FORMAT
        assert [commit.message for commit in store.log()] == ["seven", None]
        assert store["a"][9:11].tolist() == [7, 10]
        assert store.snapshot(version=1)["a"][9] == 9
        put(store, "a", 0, 8, author="me")
        assert next(store.log()).author == "me"
        assert store.verify().ok


@pytest.mark.parametrize("mode", ["r", "r+", "a"])
def test_an_older_store_is_refused_by_name(root: Path, script: Callable[[Any], None], mode: str) -> None:
    before = dump(root)
    with pytest.raises(FormatError, match=rf"format 0, .* format {FORMAT}: run 'txstore upgrade .*store'"):
        txstore.open(root, mode=mode)
    assert dump(root) == before
    upgrade_store(root, steps={1: script})
    with txstore.open(root, mode=mode) as store:
        assert store["a"][0] == 7


def test_the_command(root: Path, script: Callable[[Any], None], capsys: pytest.CaptureFixture[str]) -> None:
    from txstore.cli.app import app

    assert app(["upgrade", str(root)], standalone_mode=False) == 1
    assert "no way from format 0" in capsys.readouterr().err
    upgrade_store(root, steps={1: script})
    assert app(["upgrade", str(root), "--json"], standalone_mode=False) == 0
    assert json.loads(capsys.readouterr().out) == {"before": FORMAT, "format": FORMAT}


def test_there_is_nothing_to_do_twice(root: Path, script: Callable[[Any], None]) -> None:
    upgrade_store(root, steps={1: script})
    before = dump(root)
    assert upgrade_store(root, steps={1: script}) == (FORMAT, FORMAT)
    assert upgrade_store(root) == (FORMAT, FORMAT)
    assert dump(root) == before


def test_a_step_that_fails_leaves_all_as_it_was(root: Path, script: Callable[[Any], None]) -> None:
    before = dump(root)

    def broken(op: Any) -> None:
        script(op)
        op.execute("UPDATE no_such_table SET x = 1")

    with pytest.raises(TxStoreError, match="no_such_table"):
        upgrade_store(root, steps={1: broken})
    assert dump(root) == before
    assert upgrade_store(root, steps={1: script}) == (0, FORMAT)


KILLED = """
import importlib.util, os, signal, sys
from txstore.index.migrations import STEPS, upgrade_store

def step(op):
    spec = importlib.util.spec_from_file_location("script", sys.argv[2])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.upgrade()
    print("done", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

upgrade_store(sys.argv[1], steps={1: step})
"""


def test_killed_in_the_midst_of_it(tmp_path: Path, root: Path, script: Callable[[Any], None]) -> None:
    before = dump(root)
    with process(KILLED, root, tmp_path / "script.py") as victim:
        assert says(victim) == "done"
        assert victim.wait() == -signal.SIGKILL
    assert dump(root) == before
    assert upgrade_store(root, steps={1: script}) == (0, FORMAT)


HOLD = """
import sys
from txstore.locks import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_one_at_a_time(root: Path, script: Callable[[Any], None]) -> None:
    with process(HOLD, root / "locks" / "commit") as other:
        assert says(other) == "held"
        with pytest.raises(StorageError, match=r"waited .* for the lock"):
            upgrade_store(root, timeout_s=0.05, steps={1: script})
        tell(other)
        assert upgrade_store(root, steps={1: script}) == (0, FORMAT)


def test_what_can_not_be_upgraded(tmp_path: Path, root: Path) -> None:
    before = dump(root)
    with pytest.raises(FormatError, match=f"no way from format 0 to format {FORMAT}"):
        upgrade_store(root)
    assert dump(root) == before
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection, connection:
        connection.execute(f"UPDATE store SET format = {FORMAT + 1}")
    with pytest.raises(FormatError, match="install a newer one"):
        upgrade_store(root)
    with pytest.raises(StoreNotFoundError, match="there is no store"):
        upgrade_store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_every_format_has_its_step() -> None:
    assert sorted(STEPS) == list(range(2, FORMAT + 1))
