"""The command line, run in this process and, where it matters, as a real one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner, Result

import txstore
from txstore.cli.app import app
from txstore.cli.exits import ExitCode

DOCS = Path(__file__).parents[1] / "docs" / "cli.md"
COMMANDS = (
    "init import ls info dump log diff tag branch compact daemon export expire vacuum upgrade verify plot".split()
)
#: An argument or a call, but not an option such as --sel='0,:'.
PYTHON = re.compile(r"(?<![-\w])\w+=|\bstore\.\w+\(")
TERRAIN = np.add.outer(np.arange(40), np.arange(30)).astype("f4")


def run(*args: object, code: int = 0, env: dict[str, str] | None = None) -> Result:
    """Run a command; anything but the exit code `code` fails, and so does a traceback."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*args: object, code: int) -> str:
    """Run a command that fails; return its message, one line on stderr that does not ask anybody to write Python."""
    result = run(*args, code=code)
    assert result.stderr.startswith("txstore: ")
    assert result.stderr.count("\n") == 1
    assert not PYTHON.search(result.stderr), result.stderr
    return result.stderr.removeprefix("txstore: ").strip()


def refused_json(*args: object, code: int) -> Any:
    """Run a command that fails with --json; return the error, which must be one JSON object on a line of stderr."""
    result = run(*args, "--json", code=code)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    error = json.loads(result.stderr)
    assert sorted(error) == ["exit_code", "fields", "message", "type"]
    assert error["exit_code"] == code
    return error


def parsed(*args: object, code: int = 0) -> Any:
    """Run a command with --json; return its one document, which must be strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    result = run(*args, "--json", code=code)
    return json.loads(result.stdout, parse_constant=refuse)


def process(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "txstore", *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=60,
        check=False,
    )


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Path]:
    """A store of four versions: dem (1), a correction of it (2), era5/t2m (3), the same with more hours (4)."""
    root = tmp_path / "survey"
    with txstore.open(root) as store:
        with store.transaction(message="the terrain\n\nas surveyed", author="Ada") as tx:
            dem = tx.create_array("dem", shape=TERRAIN.shape, dtype="f4", chunks=(16, 16), dimension_names=("y", "x"))
            dem[...] = TERRAIN
            dem.attrs["units"] = "m"
        with store.transaction(message="correct a strip") as tx:
            tx["dem"][3:7, 10:20] = -1
        with store.transaction(message="hours") as tx:
            hours = tx.create_array("era5/t2m", shape=(2, 8, 6), dtype="i2", chunks=(1, 8, 6))
            hours[...] = np.arange(96).reshape(2, 8, 6)
        with store.transaction(message="another hour") as tx:
            tx["era5/t2m"].append(np.full((1, 8, 6), 7, dtype="i2"))
    yield root
    with txstore.open(root, mode="r") as store:
        assert store.verify().ok


@pytest.fixture
def zarr_tree(tmp_path: Path) -> Path:
    """A Zarr v3 group with one array, dem."""
    import zarr

    root = tmp_path / "dem.zarr"
    group = zarr.create_group(root)
    group.create_array("dem", data=np.tile(TERRAIN, (4, 4)), chunks=(64, 64))
    return root


# -- what all commands share ----------------------------------------------------------------------


def options_of(command: str) -> list[str]:
    """The names of the options of `command`; --help is left out."""
    group = typer.main.get_command(app)
    found = group.commands[command].params  # type: ignore[attr-defined]
    return [name for parameter in found for name in parameter.opts + parameter.secondary_opts if name.startswith("--")]


def test_the_commands_are_these() -> None:
    assert sorted(typer.main.get_command(app).commands) == sorted(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json(command: str) -> None:
    text = run(command, "--help").stdout
    assert f"txstore {command} " in text.partition("Example")[2]
    assert "--json" in options_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command: str) -> None:
    section = DOCS.read_text().partition(f"\n### txstore {command}\n")[2].partition("\n### ")[0]
    assert section, f"docs/cli.md has no section for {command}"
    assert f"$ txstore {command} " in section, "no example"
    for option in options_of(command):
        if option != "--consolidated":  # the default
            assert option in section, option


def test_exit_codes_are_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE)}
    assert documented == set(ExitCode)


def test_examples_of_the_documentation_run(zarr_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zarr_tree.parent)
    blocks = re.findall(r"^```console\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) > len(COMMANDS)
    for command in commands:
        program, *args = shlex.split(command)
        assert program == "txstore"
        # The one example that shows a code other than 0.
        run(*args, code=1 if "--exit-code" in args else 0)


def test_json_of_every_command_parses(survey: Path, zarr_tree: Path, tmp_path: Path) -> None:
    calls: dict[str, list[Sequence[object]]] = {
        "init": [[tmp_path / "new"]],
        "import": [[zarr_tree, tmp_path / "imported"]],
        "ls": [[survey], [survey, "era5"], [survey, "-r"]],
        "info": [[survey], [survey, "dem"], [survey, "era5"]],
        "dump": [[survey], [survey, "dem"], [survey, "dem", "-m"], [survey, "era5/t2m", "--sel", "0,1,2"]],
        "plot": [[survey, "dem"]],
        "log": [[survey], [survey, "dem", "-n", 1], [survey, "--oneline"]],
        "diff": [[survey, 1, 2], [survey, 4]],
        "tag": [[survey], [survey, "t"], [survey, "t", 1, "-f"], [survey, "-d", "t"]],
        "branch": [[survey], [survey, "b"], [survey, "b", 1, "-f"], [survey, "-d", "b"]],
        "compact": [[survey, "--dry-run"], [survey]],
        "daemon": [[survey, "--once"]],
        "export": [[survey, tmp_path / "out.zarr"]],
        "expire": [[survey, "--keep-last", 3, "--dry-run"], [survey, "--older-than", "30d"]],
        "vacuum": [[survey, "--dry-run"], [survey]],
        "upgrade": [[survey]],
        "verify": [[survey], [survey, "dem"]],
    }
    assert sorted(calls) == sorted(COMMANDS)
    for command, argument_lists in calls.items():
        for args in argument_lists:
            parsed(command, *args)


def test_at_is_taken_by_everything_that_reads(survey: Path, tmp_path: Path) -> None:
    run("tag", survey, "first", 1)
    assert parsed("ls", survey, "--at", "first")[0]["name"] == "dem"
    assert len(parsed("ls", survey, "--at", "first")) == 1
    assert parsed("info", survey, "dem", "--at", 1)["version"] == 1
    assert parsed("dump", survey, "dem", "--sel", "3, 10", "--at", 1)["values"]["data"] == 13.0
    assert parsed("dump", survey, "dem", "--sel", "3, 10")["values"]["data"] == -1.0
    assert parsed("plot", survey, "dem", "--at", "tag:first")["low"] == 0.0
    assert [commit["version"] for commit in parsed("log", survey, "--at", 2)][:2] == [2, 1]
    run("export", survey, tmp_path / "first.zarr", "--at", "first")
    assert (tmp_path / "first.zarr" / "dem").exists()
    assert not (tmp_path / "first.zarr" / "era5").exists()


def test_at_takes_times_of_main_and_of_branches(survey: Path) -> None:
    times = {commit["version"]: commit["committed_at"] for commit in parsed("log", survey)}
    assert parsed("info", survey, "--at", times[2])["version"] == 2
    assert parsed("info", survey, "--at", times[2].replace("+00:00", "Z"))["version"] == 2
    assert parsed("info", survey, "--at", f"main@{times[1]}")["version"] == 1
    assert parsed("info", survey, "--at", "main@2")["version"] == 2
    assert "offset" in refused("info", survey, "--at", "2026-01-01T00:00", code=2)
    assert "lies in the future" in refused("info", survey, "--at", "9999-01-01T00:00Z", code=2)


def test_a_name_of_both_a_tag_and_a_branch_is_ambiguous(survey: Path) -> None:
    run("tag", survey, "both", 1)
    run("branch", survey, "both", 2)
    assert "tag:both or branch:both" in refused("ls", survey, "--at", "both", code=2)
    assert len(parsed("ls", survey, "--at", "tag:both")) == 1
    assert parsed("dump", survey, "dem", "--sel=3,10", "--at", "branch:both")["values"]["data"] == -1.0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("tag SURVEY BAD", 2),
        ("tag SURVEY -d BAD", 2),
        ("tag SURVEY good BAD", 3),
        ("branch SURVEY BAD", 2),
        ("branch SURVEY -d BAD", 2),
        ("ls SURVEY BAD", 2),
        ("ls SURVEY --at tag:BAD", 2),
        ("ls SURVEY --at branch:BAD", 2),
        ("ls SURVEY --at BAD@1", 2),
        ("log SURVEY BAD", 2),
        ("diff SURVEY 1 --path BAD", 2),
        ("verify SURVEY BAD", 2),
        ("compact SURVEY BAD", 2),
        ("export SURVEY out.zarr --path BAD", 2),
        ("import ZARR SURVEY --path BAD", 2),
        ("import ZARR SURVEY --path new --message BAD", 2),
    ],
)
def test_bytes_that_are_no_utf8_are_one_line(
    survey: Path, zarr_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: str, code: int
) -> None:
    """As a shell in Latin-1 passes them: Python makes halves of surrogate pairs of such bytes."""
    monkeypatch.chdir(tmp_path)
    known = {"SURVEY": str(survey), "ZARR": str(zarr_tree)}
    words = [known.get(word, word.replace("BAD", os.fsdecode(b"t\xe9"))) for word in args.split()]
    before = parsed("log", survey)
    assert "t\\udce9" in refused(*words, code=code)
    assert "t\\udce9" in refused_json(*words, code=code)["message"]
    assert parsed("log", survey) == before


def test_bytes_that_are_no_utf8_reach_a_process(survey: Path) -> None:
    command: list[str | bytes] = [sys.executable, "-m", "txstore", "tag", str(survey), b"t\xe9", "--json"]
    result = subprocess.run(command, capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (2, b"")
    assert json.loads(result.stderr)["type"] == "InvalidInputError"


def test_a_dry_run_of_compaction_needs_no_right_to_write(survey: Path) -> None:
    with txstore.open(survey, mode="r") as store:
        asked = store.compact(dry_run=True).to_dict()
        with pytest.raises(txstore.ReadOnlyError):
            store.compact()
    assert parsed("compact", survey, "--dry-run") == asked
    assert asked["dry_run"] and asked["partitions"]


def test_times_have_one_form(survey: Path) -> None:
    newest = parsed("log", survey)[0]["committed_at"]
    assert newest.endswith("Z")
    assert parsed("info", survey)["committed_at"] == newest
    with txstore.open(survey, mode="r") as store:
        assert store.info()["committed_at"] == next(store.log()).to_dict()["committed_at"] == newest
        assert store.snapshot(as_of=newest).version == store.snapshot().version


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["ls", "nowhere"], 3),
        (["ls", "{survey}", "nothing"], 3),
        (["ls", "{survey}", "--at", "nothing"], 3),
        (["ls", "{survey}", "--at", "99"], 3),
        (["tag", "{survey}", "-d", "nothing"], 3),
        (["import", "nothing.zarr", "{survey}"], 3),
        (["init", "{survey}"], 4),
        (["branch", "{survey}", "main"], 4),
        (["frobnicate"], 2),
        (["ls"], 2),
        (["ls", "{survey}", "--nonsense"], 2),
        (["expire", "{survey}"], 2),
        (["expire", "{survey}", "--older-than", "soon"], 2),
        (["dump", "{survey}", "dem", "--sel", "__import__('os')"], 2),
        (["dump", "{survey}", "dem", "--sel", "0,0,0"], 2),
        (["dump", "{survey}", "dem", "--sel", "40"], 2),
        (["dump", "{survey}", "--sel", "0"], 2),
        (["plot", "{survey}", "era5/t2m"], 2),
        (["plot", "{survey}", "era5"], 2),
        (["plot", "{survey}", "dem", "--cmap", "nothing"], 2),
        (["tag", "{survey}", "-d"], 2),
        (["tag", "{survey}", "-d", "a", "1"], 2),
        (["branch", "{survey}", "-f"], 2),
        (["daemon", "{survey}", "--interval", "often"], 2),
        (["log", "{survey}", "-n", "-1"], 2),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(*(arg.format(survey=survey) for arg in args), code=code)


def test_a_read_does_not_create_a_store(tmp_path: Path) -> None:
    for command in ("ls", "log", "verify", "vacuum"):
        run(command, tmp_path / "nothing", code=ExitCode.NOT_FOUND)
    assert not (tmp_path / "nothing").exists()


def test_an_import_of_nothing_leaves_no_store_behind(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for source, code in (("nothing.zarr", 3), ("file", 3), ("folder", 3), ("survey", 2)):
        assert source in refused("import", tmp_path / source, tmp_path / "store", code=code)
    assert not (tmp_path / "store").exists()


def test_what_is_no_store_is_not_found(zarr_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "below").mkdir(parents=True)
    reading = (
        ["ls"],
        ["info"],
        ["dump"],
        ["log"],
        ["tag"],
        ["diff", 1],
        ["verify"],
        ["plot", "dem"],
        ["export", "out"],
    )
    writing = (["tag", "v1"], ["branch", "b"], ["compact"], ["vacuum"], ["expire", "--keep-last", 1], ["daemon"])
    for place in (zarr_tree, tmp_path / "file", tmp_path / "folder"):
        for command, *rest in (*reading, *writing):
            message = refused(command, place, *rest, code=3)
            assert str(place) in message
            assert "empty directory" not in message
        assert refused_json("ls", place, code=3)["type"] == "StoreNotFoundError"
        # To make one there is another thing: something is in the way.
        refused("init", place, code=4)
    assert f"'txstore import {zarr_tree} STORE'" in refused("ls", zarr_tree, code=3)


def test_an_expired_version_is_not_found(survey: Path) -> None:
    run("expire", survey, "--keep-last", 1)
    refused("dump", survey, "dem", "--at", 1, code=3)


def test_nothing_is_older_than_a_time_to_come(survey: Path) -> None:
    assert "lies in the future" in refused("expire", survey, "--older-than", "9999-01-01T00:00Z", code=2)
    assert parsed("info", survey)["store"]["horizon"] == 0


def test_numbers_without_a_size_are_refused(survey: Path) -> None:
    for rate in ("inf", "nan", "1e300"):
        assert "--rate-limit" in refused("daemon", survey, "--once", "--rate-limit", rate, code=2)


def test_long_names_are_cut_in_lines_and_whole_in_json(survey: Path) -> None:
    name = "n" * 300
    for args, code in ((["ls", survey, "--at", name], 3), (["dump", survey, "dem", "--sel", name], 2), ([name], 2)):
        message = refused(*args, code=code)
        assert "nnn...nnn" in message
        assert len(message) < 350
        assert name in refused_json(*args, code=code)["message"]


def test_control_characters_of_a_message_are_shown_escaped(survey: Path) -> None:
    with txstore.open(survey) as store, store.transaction(message="\x1b[2Jgone\rforged") as tx:
        tx["dem"][0, 0] = 5
    shown = run("log", survey, "-n", 1).stdout
    assert r"\x1b[2Jgone\rforged" in shown
    assert "\x1b" not in shown


# -- errors ---------------------------------------------------------------------------------------


def test_the_library_s_advice_becomes_options(survey: Path, zarr_tree: Path, tmp_path: Path) -> None:
    out, archive = tmp_path / "out.zarr", tmp_path / "out.zip"
    with txstore.open(survey) as store, store.transaction() as tx:
        tx.create_array("words", shape=(2,), dtype="U4")
        tx.attrs["title"] = "mine"
    run("export", survey, out)
    run("export", survey, archive)
    fresh = tmp_path / "fresh.zarr"

    def says(text: str, *args: object, code: int) -> None:
        assert text in refused(*args, code=code)

    says("'txstore init' makes one", "ls", tmp_path / "nothing", code=3)
    says("there is a store at", "init", survey, code=4)
    says("'txstore import", "init", zarr_tree, code=4)
    says("--index: only the embedded index", "ls", survey, "--index", "sqlite:///x", code=2)
    says("another place with --path", "import", zarr_tree, survey, code=4)
    says("--overwrite replaces an export", "export", survey, out, code=4)
    says("--overwrite replaces an export", "export", survey, archive, code=4)
    says("--incremental needs a directory", "export", survey, archive, "--incremental", code=2)
    says("with --overwrite", "export", survey, zarr_tree, "--incremental", code=4)
    says("another --zarr-format;", "export", survey, out, "--incremental", "--zarr-format", 2, code=2)
    says("--layout references is not", "export", survey, fresh, "--layout", "references", code=2)
    says("needs --zarr-format 3", "export", survey, fresh, "--layout", "shards", "--zarr-format", 2, code=2)
    says("--profile native holds", "export", survey, fresh, "--profile", "portable", "--path", "words", code=2)
    says("--metrics-host ''", "daemon", survey, "--once", "--metrics-host", "", code=2)
    says("--interval 6", "daemon", survey, "--once", "--interval", "999999w", code=2)
    says("--older-than 6", "daemon", survey, "--once", "--older-than", "999999w", code=2)
    zarr_json = json.loads((zarr_tree / "zarr.json").read_text())
    (zarr_tree / "zarr.json").write_text(json.dumps(zarr_json | {"attributes": {"title": "theirs"}}))
    shutil.rmtree(zarr_tree / "dem")
    says("import below a --path", "import", zarr_tree, survey, code=4)


def damage(kind: str, index: Path, tmp_path: Path) -> None:
    """Damage an index of which nobody holds a connection."""
    if kind == "garbage":
        index.write_bytes(np.random.default_rng(1).bytes(20_000))
    elif kind == "truncated":
        os.truncate(index, index.stat().st_size // 2)
    elif kind == "empty":
        os.truncate(index, 0)
    elif kind == "without a table":
        with closing(sqlite3.connect(index)) as database:
            database.execute("DROP TABLE fragments")
    else:
        txstore.open(tmp_path / "another").close()
        shutil.copy(tmp_path / "another" / "index.sqlite", index)


@pytest.mark.parametrize("kind", ["garbage", "truncated", "empty", "without a table", "of another store"])
def test_errors_of_a_damaged_index_are_json_where_json_is_asked_for(survey: Path, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(survey, root)
    damage(kind, root / "index.sqlite", tmp_path)
    calls = (
        ["info", root, "dem"],
        ["dump", root, "dem"],
        ["plot", root, "dem"],
        ["diff", root, 1, 2],
        ["compact", root],
    )
    for args in (*calls, ["export", root, tmp_path / "out"], ["verify", root, "dem"]):
        plain = CliRunner().invoke(app, [str(arg) for arg in args])
        if plain.exit_code == 0:
            assert kind == "of another store"  # which is empty
            assert args[0] in ("compact", "export")
            continue
        error = refused_json(*args, code=plain.exit_code)
        assert plain.stderr == f"txstore: {error['message']}\n"
        assert issubclass(getattr(txstore, error["type"]), txstore.TxStoreError)
        assert kind != "of another store" or error["type"] == "NotFoundError"
        if error["type"] == "CorruptionError":
            assert error["fields"]["place"] == str(root / "index.sqlite")


@pytest.mark.leaks("matplotlib keeps its fonts open")
def test_other_errors_are_json_where_json_is_asked_for(survey: Path, tmp_path: Path) -> None:
    for args in (["ls"], ["frobnicate"], ["ls", survey, "--nonsense"], ["log", survey, "-n", "-1"]):
        assert refused_json(*args, code=2)["type"] == "UsageError"
    assert refused_json("dump", survey, "dem", "--sel", "40", code=2)["type"] == "InvalidIndexError"
    file = tmp_path / "none" / "out.png"
    pytest.importorskip("matplotlib")
    error = refused_json("plot", survey, "dem", "--png", file, code=1)
    assert (error["type"], error["fields"]) == ("FileNotFoundError", {"errno": 2, "filename": str(file)})


def test_errors_of_diff_are_told_from_differences(survey: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(survey, root)
    damage("garbage", root / "index.sqlite", tmp_path)
    refused("diff", root, 1, code=1)
    refused("diff", root, 1, "--exit-code", code=128)
    assert refused_json("diff", root, 1, "--exit-code", code=128)["type"] == "FormatError"


# -- real processes -------------------------------------------------------------------------------


def test_the_module_runs_as_a_program(survey: Path) -> None:
    done = process("ls", survey)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["dem", "era5/"], "")
    done = process("ls", survey, "nothing")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert process("--version").stdout.startswith("txstore ")
    assert process().returncode == 2


def test_help_loads_nothing_heavy() -> None:
    # The package itself is left out: what it imports is its own affair.
    script = f"""
import sys, types
package = types.ModuleType("txstore")
package.__path__ = [{str(Path(txstore.__file__).parent)!r}]
sys.modules["txstore"] = package
import txstore.cli.app
for name in ("numpy", "sqlalchemy", "matplotlib", "zarr", "numcodecs", "rich.table", "rich.progress"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_reader_that_goes_away_ends_a_command_quietly(survey: Path) -> None:
    with txstore.open(survey) as store, store.transaction() as tx:
        tx.create_array("big", shape=(200_000,), dtype="i4", chunks=(50_000,))
    command = [sys.executable, "-m", "txstore", "dump", str(survey), "big"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == ExitCode.PIPE


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["ls", "--help"], ["ls", "{survey}"]])
def test_output_that_nobody_reads_is_no_error(survey: Path, args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "txstore", *(arg.format(survey=survey) for arg in args)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE, b"")


def test_closed_streams_are_no_error(survey: Path, tmp_path: Path) -> None:
    txstore_ = f"{shlex.quote(sys.executable)} -m txstore"
    for command, code in (
        (f"ls {survey} >&-", 0),
        (f"info {survey} --json >&-", 0),
        (f"plot {survey} dem >&-", 0),
        (f"compact {survey} >&- 2>&-", 0),
        (f"ls {survey} nothing 2>&-", 3),
    ):
        done = subprocess.run(["sh", "-c", f"{txstore_} {command}"], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b""), command


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_finds_no_room_is_an_error(survey: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "txstore", "ls", str(survey)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"txstore: No space left on device\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_is_one_line(survey: Path, as_json: bool) -> None:
    with txstore.open(survey) as store, store.transaction() as tx:
        tx.create_array("big", shape=(1_000_000,), dtype="i4", chunks=(50_000,))
    command = [sys.executable, "-m", "txstore", "dump", str(survey), "big", *(["--json"] if as_json else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        # More than a pipe holds: the command waits until somebody reads on.
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == ExitCode.INTERRUPTED
    if as_json:
        assert json.loads(errors)["exit_code"] == ExitCode.INTERRUPTED
    else:
        assert errors == b"txstore: interrupted\n"


def test_a_pipe_gets_neither_colours_nor_progress(survey: Path, zarr_tree: Path, tmp_path: Path) -> None:
    able = {"FORCE_COLOR": "", "TTY_COMPATIBLE": "", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    for args in (
        ["import", zarr_tree, survey, "--path", "terrain"],
        ["export", survey, tmp_path / "out.zarr"],
        ["ls", survey, "-l"],
        ["log", survey],
        ["diff", survey, 1],
        ["dump", survey, "era5/t2m"],
        ["plot", survey, "dem"],
        ["compact", survey],
        ["verify", survey],
    ):
        done = run(*args, env=able)
        assert done.stderr == "", args
        assert "\x1b" not in done.stdout, args
        assert done.stdout, args


def test_names_that_a_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    root = tmp_path / "s"
    with txstore.open(root) as store, store.transaction(message="é\x9b") as tx:
        tx.create_array("é", shape=(1,), dtype="U2", data=np.array(["é\x9b"])).attrs["title"] = "é\x9b\U0001d518"
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = process("log", root, **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\xe9\x9b" in done.stdout
    document = process("ls", root, "--json", **ascii_only).stdout
    assert document.isascii()
    spoken = process("ls", root, "--json", PYTHONIOENCODING="utf-8").stdout
    assert "é" in spoken
    assert "\x9b" not in spoken
    assert json.loads(document) == json.loads(spoken)
    assert json.loads(spoken)[0]["attributes"] == {"title": "é\x9b\U0001d518"}


def test_colour_is_for_terminals_and_not_under_no_color(survey: Path) -> None:
    plain = {"FORCE_COLOR": "", "TTY_COMPATIBLE": "", "COLORTERM": "truecolor", "TERM": "xterm-256color"}
    assert "\x1b" not in process("plot", survey, "dem", **plain).stdout
    colored = process("plot", survey, "dem", **{**plain, "FORCE_COLOR": "1", "NO_COLOR": ""}).stdout
    assert "\x1b[38;2;" in colored
    assert "▀" in colored
    shaded = process("plot", survey, "dem", **{**plain, "FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout
    assert "\x1b[38" not in shaded
    assert "▓" in shaded
    ascii_only = process("plot", survey, "dem", **{**plain, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}).stdout
    assert ascii_only.isascii()
    assert "@" in ascii_only


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_stops_cleanly(survey: Path, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "txstore", "daemon", str(survey), "--interval", "0.1", "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        first = child.stderr.readline()
        json.loads(first)
        time.sleep(0.3)
        child.send_signal(stop)
        rest = child.stderr.read()
    assert "Traceback" not in rest
    assert child.returncode == 0


# -- in and out -----------------------------------------------------------------------------------


def test_init_import_and_export(zarr_tree: Path, tmp_path: Path) -> None:
    import zarr

    store, out = tmp_path / "store", tmp_path / "out.zarr"
    run("init", store)
    run("import", zarr_tree, store, "--path", "terrain")
    run("tag", store, "v1")
    for options in ([], ["--zarr-format", "2"], ["--profile", "portable", "--no-consolidated", "-j", "2"]):
        run("export", store, out, "--at", "v1", "--overwrite", *options)
        exported = zarr.open_group(out, mode="r")
        np.testing.assert_array_equal(exported["terrain/dem"], np.tile(TERRAIN, (4, 4)))
    refused("export", store, out, code=4)
    run("export", store, tmp_path / "dem.zip", "--path", "terrain/dem")
    assert (tmp_path / "dem.zip").is_file()


# -- data -----------------------------------------------------------------------------------------


def test_ls(survey: Path) -> None:
    assert run("ls", survey).stdout.split() == ["dem", "era5/"]
    assert run("ls", survey, "-r").stdout.split() == ["dem", "era5/", "era5/t2m"]
    assert run("ls", survey, "/era5/").stdout.split() == ["t2m"]
    header, line, _ = run("ls", survey, "-l").stdout.splitlines()
    assert header.split() == ["NAME", "SHAPE", "DTYPE", "CHUNKS"]
    assert line.split("  ")[:3] == ["dem", " (40, 30)", "float32"] or "(40, 30)" in line


def test_a_piped_table_is_not_cut(survey: Path) -> None:
    name = "a" * 150
    with txstore.open(survey) as store, store.transaction() as tx:
        tx.create_array(name, shape=(1, 2, 3), dtype="f8")
    assert name in run("ls", survey, "-l").stdout


def test_info(survey: Path) -> None:
    facts = parsed("info", survey, "dem")
    assert facts["shape"] == [40, 30]
    assert facts["chunks"] == [16, 16]
    assert facts["dtype"] == "float32"
    assert facts["attributes"] == {"units": "m"}
    assert facts["dimension_names"] == ["y", "x"]
    assert facts["fragments"] >= 2
    assert facts["stored_bytes"] > 0
    assert "float32" in run("info", survey, "dem").stdout


def test_info_tells_the_state_asked_for_from_the_store(survey: Path) -> None:
    facts = parsed("info", survey)
    assert facts.items() >= {"branch": "main", "version": 4, "arrays": 2, "groups": 1}.items()
    assert facts["store"]["version"] == 4
    facts = parsed("info", survey, "--at", 1)
    assert facts.items() >= {"branch": "main", "version": 1, "arrays": 1, "groups": 0}.items()
    assert facts["store"]["version"] == 4
    assert facts["committed_at"] < facts["store"]["committed_at"]
    assert facts["store"]["committed_at"].endswith("Z")
    state, _, whole = run("info", survey, "--at", 1).stdout.partition("\nthe store, at its newest version:\n")
    assert re.search(r"^version +1$", state, re.MULTILINE)
    assert re.search(r"^version +4$", whole, re.MULTILINE)


def test_dump(survey: Path) -> None:
    lines = run("dump", survey, "dem", "--sel", "2:5:2, 9:12").stdout.splitlines()
    end = lines.index("}")
    document = json.loads("\n".join(lines[1 : end + 1]))
    assert (document["zarr_format"], document["node_type"], document["shape"]) == (3, "array", [40, 30])
    assert lines[end + 2 :] == ["[2, 9]  11.0, 12.0, 13.0", "[4, 9]  13.0, -1.0, -1.0"]
    found = parsed("dump", survey)
    assert sorted(found["metadata"]) == ["", "dem", "era5", "era5/t2m"]
    assert found["values"] is None
    assert parsed("dump", survey, "dem", "-m")["values"] is None
    found = parsed("dump", survey, "dem", "--sel=-1,::-1")["values"]
    assert found["data"] == TERRAIN[-1, ::-1].tolist()


def test_dump_shows_every_dtype_so_that_it_can_be_read_back(tmp_path: Path) -> None:
    values: dict[str, tuple[Any, str, Any]] = {
        "bool": (np.array([True]), "True", [True]),
        "f4": (np.array([0.1], "f4"), "0.1", [float(np.float32(0.1))]),
        "nan": (np.array([np.nan, -np.inf]), "nan, -inf", ["NaN", "-Infinity"]),
        "complex": (np.array([1 + 2j]), "(1+2j)", [[1.0, 2.0]]),
        "time": (np.array(["2026-01-02", "NaT"], "M8[ns]"), "2026-01-02T00:00:00.000000000, NaT", None),
        "text": (np.array(['a"b']), '"a\\"b"', ['a"b']),
        "bytes": (np.array([b"ab"]), '"ab"', ["ab"]),
        "record": (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]), "(1, 2.5)", [[1, 2.5]]),
    }
    with txstore.open(tmp_path / "s") as store, store.transaction() as tx:
        for name, (data, _, _) in values.items():
            tx.create_array(name, shape=data.shape, dtype=data.dtype, data=data)
    for name, (_, text, data) in values.items():
        assert run("dump", tmp_path / "s", name).stdout.splitlines()[-1] == f"[0]  {text}"
        found = parsed("dump", tmp_path / "s", name)["values"]["data"]
        if data is not None:
            assert found == data


def test_scalars_and_empty_arrays(tmp_path: Path) -> None:
    root = tmp_path / "s"
    with txstore.open(root) as store, store.transaction() as tx:
        tx.create_array("scalar", shape=(), dtype="i4")[...] = 42
        tx.create_array("empty", shape=(0, 3), dtype="f8")
    assert run("dump", root, "scalar").stdout.splitlines()[-1] == "42"
    assert "shape (0, 3)" in run("dump", root, "empty").stdout.splitlines()[-1]
    assert parsed("dump", root, "empty")["values"]["data"] == []
    assert "no cells" in run("plot", root, "empty").stdout
    for name in ("scalar", "empty"):
        run("info", root, name)


@pytest.mark.parametrize(
    ("shape", "lines"),
    [((60, 80), 15), ((20, 40), 10), ((40, 40), 20), ((90, 80), 23), ((16, 20), 16), ((4, 1000), 5), ((50, 400), 5)],
)
def test_plot_keeps_the_proportions(tmp_path: Path, shape: tuple[int, int], lines: int) -> None:
    with txstore.open(tmp_path / "s") as store, store.transaction() as tx:
        tx.create_array("a", data=np.ones(shape))
    drawn = run("plot", tmp_path / "s", "a", "--width", 40).stdout.splitlines()[:-1]
    assert len(drawn) == lines
    assert {len(line) for line in drawn} == {40}


def test_plot_in_the_terminal(survey: Path) -> None:
    lines = run("plot", survey, "dem", "--width", 20).stdout.splitlines()
    assert lines[-1] == "dem[0:40, 0:30] at version 4: -1 to 68"
    assert max(map(len, lines[:-1])) == 20
    assert parsed("plot", survey, "era5/t2m", "--sel=-1,:,1:5:2")["selection"] == "[2, 0:8, 1:5:2]"
    assert "--sel='0,:,:'" in refused("plot", survey, "era5/t2m", code=2)


@pytest.mark.leaks("matplotlib keeps its fonts open")
def test_plot_to_a_file(survey: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "out.png"
    run("plot", survey, "era5/t2m", "--sel=0,:,:", "--at", 3, "--png", file, "--cmap", "magma")
    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    refused("plot", survey, "dem", "--png", file, "--cmap", "nothing", code=2)
    nowhere = tmp_path / "none" / "out.png"
    assert refused("plot", survey, "dem", "--png", nowhere, code=1) == f"{nowhere}: No such file or directory"


@pytest.mark.parametrize(
    "limits", [["--vmin=5", "--vmax=1"], ["--vmin=5", "--vmax=5"], ["--vmin=nan"], ["--vmax=inf"], ["--vmin=-inf"]]
)
def test_plot_refuses_limits_that_are_none(survey: Path, tmp_path: Path, limits: list[str]) -> None:
    for more in ([], ["--png", tmp_path / "out.png"]):
        assert limits[0].partition("=")[0] in refused("plot", survey, "dem", *limits, *more, code=2)
    assert not (tmp_path / "out.png").exists()


def test_plot_with_one_limit_beyond_the_values(survey: Path) -> None:
    found = parsed("plot", survey, "dem", "--vmin", 1000)
    assert (found["low"], found["high"]) == (1000.0, 1000.0)
    # Every cell lies below, and has the lowest shade.
    assert set(run("plot", survey, "dem", "--vmin", 1000).stdout.rpartition("dem[")[0]) == {"░", "\n"}


def test_plot_says_what_is_missing(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'txstore[viz]'" in refused("plot", survey, "dem", "--png", "out.png", code=1)


def test_plot_reads_a_big_array_with_a_stride(tmp_path: Path) -> None:
    with txstore.open(tmp_path / "s") as store, store.transaction() as tx:
        big = tx.create_array("big", shape=(1 << 22, 1 << 22), dtype="f8", chunks=(4096, 4096))
        big[: 1 << 10, : 1 << 10] = 1.0
    found = parsed("plot", tmp_path / "s", "big", "--width", 60)
    assert found["shape"][1] <= 2 * 60
    assert found["step"][0] > 10_000
    assert (found["low"], found["high"]) == (0.0, 1.0)


# -- history --------------------------------------------------------------------------------------


def test_log(survey: Path) -> None:
    assert [commit["version"] for commit in parsed("log", survey, "-n", 2)] == [4, 3]
    assert [commit["version"] for commit in parsed("log", survey, "dem")] == [2, 1]
    assert parsed("log", survey, "-n", 0) == []
    first = run("log", survey, "--oneline").stdout.splitlines()[0]
    assert re.fullmatch(r"4 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z another hour", first)
    text = run("log", survey, "dem", "--at", 1).stdout
    assert "version 1\n" in text
    assert "    as surveyed\n" in text
    assert re.search(r"^author +Ada$", text, re.MULTILINE)


def test_log_of_a_path(survey: Path) -> None:
    for args in (["nothing"], ["nothing", "--oneline"], ["nothing", "-n", 0], ["dem/below"], ["era5", "--at", 2]):
        assert f"{args[0]!r}" in refused("log", survey, *args, code=3)
    assert refused_json("log", survey, "nothing", code=3)["type"] == "NotFoundError"
    with txstore.open(survey) as store:
        with store.transaction() as tx:
            del tx["dem"]
        with store.transaction() as tx:
            tx.move("era5", "era6")
    assert [commit["version"] for commit in parsed("log", survey, "/dem/")] == [5, 2, 1]
    assert [commit["version"] for commit in parsed("log", survey, "era5/t2m")] == [4, 3]
    # It is there, though no commit has that name: it came with the group above it.
    assert parsed("log", survey, "era6/t2m") == []


def test_log_of_a_branch(survey: Path) -> None:
    run("branch", survey, "fix", 2)
    with txstore.open(survey) as store, store.transaction(branch="fix", message="on the branch") as tx:
        tx["dem"][0, 0] = 9
    with txstore.open(survey) as store, store.transaction(message="on main") as tx:
        tx["dem"][0, 1] = 9
    messages = [line.split(" ", 2)[2] for line in run("log", survey, "--oneline", "--at", "fix").stdout.splitlines()]
    assert messages[0] == "on the branch"
    assert "another hour" not in messages
    assert "on the branch" not in run("log", survey).stdout
    assert parsed("dump", survey, "dem", "--sel=0,:2", "--at", "fix")["values"]["data"] == [9.0, 1.0]


def test_diff(survey: Path) -> None:
    assert run("diff", survey, 1, 2).stdout == "~ dem [3:7, 10:20]\n"
    text = run("diff", survey, 1).stdout
    assert "+ era5/t2m\n" in text
    assert run("diff", survey, 1, 1).stdout == ""
    run("diff", survey, 1, 2, "--exit-code", code=1)
    run("diff", survey, 1, 1, "--exit-code", code=0)
    run("diff", survey, 1, 2, "--exit-code", "--path", "dem/", code=1)
    run("diff", survey, 2, 3, "--exit-code", "--path", "dem", code=0)
    assert "'era5'" in refused("diff", survey, 1, 2, "--exit-code", "--path", "era5", code=3)
    refused("diff", survey, 1, "nothing", "--exit-code", code=3)
    with txstore.open(survey) as store, store.transaction() as tx:
        tx["dem"].resize((50, 30))
        tx["dem"].attrs["title"] = "terrain"
        tx.move("era5", "era6")
    text = run("diff", survey, 4).stdout
    assert "~ dem shape (40, 30) -> (50, 30)\n" in text
    assert "~ dem attributes title\n" in text
    assert "> era5 -> era6\n" in text


def test_tags_as_in_git(survey: Path) -> None:
    run("tag", survey, "a")
    run("tag", survey, "b", 1)
    assert run("tag", survey).stdout.split() == ["a", "4", "b", "1"]
    refused("tag", survey, "b", 2, code=4)
    run("tag", survey, "b", 2, "-f")
    run("tag", survey, "-d", "a")
    assert parsed("tag", survey) == {"b": 2}


def test_branches_as_in_git(survey: Path) -> None:
    run("branch", survey, "fix", 1)
    assert sorted(parsed("branch", survey)) == ["fix", "main"]
    assert "era5/" not in run("ls", survey, "--at", "fix").stdout
    refused("branch", survey, "fix", 3, code=4)
    refused("branch", survey, "fix", "nothing", "-f", code=3)
    assert "era5/" not in run("ls", survey, "--at", "fix").stdout
    run("branch", survey, "fix", 3, "-f")
    assert "era5/" in run("ls", survey, "--at", "fix").stdout
    run("branch", survey, "-d", "fix")
    assert sorted(parsed("branch", survey)) == ["main"]


# -- maintenance ----------------------------------------------------------------------------------


def test_compact_expire_and_vacuum_keep_what_is_read(survey: Path) -> None:
    before = parsed("dump", survey, "dem")["values"]
    for command in (["compact"], ["expire", "--keep-last", 1], ["vacuum"], ["daemon", "--once"]):
        run(command[0], survey, *command[1:], "--dry-run") if command[0] != "daemon" else None
        run(command[0], survey, *command[1:])
        assert parsed("dump", survey, "dem")["values"] == before


def test_verify_exits_with_5_for_damage(tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    data = np.random.default_rng(1).random((600, 600))
    with txstore.open(root) as store, store.transaction() as tx:
        tx.create_array("noise", shape=data.shape, dtype="f8", data=data)
    assert "ok" in run("verify", root).stdout
    largest = max(
        (path for path in (root / "segments").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    text = run("verify", root, code=5).stdout
    assert "problem: " in text
    assert "back from a copy of the store" in text.partition("\nnext: ")[2]
    assert "run txstore verify" not in text
    found = parsed("verify", root, code=5)
    assert not found["ok"]
    assert found["problems"]
    assert "run txstore verify" not in found["problems"][0]["message"]
    assert len(found["next"]) == 1
    assert "run txstore verify" in refused("dump", root, "noise", code=5)
    place = refused_json("dump", root, "noise", code=5)["fields"]["place"]
    assert place["segment"] == largest.name
    assert place["length"] > 0


def test_verify_says_what_to_do_about_other_damage(survey: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(survey, damaged)
    with closing(sqlite3.connect(damaged / "index.sqlite")) as index:
        index.execute("UPDATE attributes SET value = '{'")
        index.commit()
    assert "index.sqlite" in run("verify", damaged, code=5).stdout.partition("\nnext: ")[2]
    assert parsed("verify", survey)["next"] == []
    os.truncate(damaged / "index.sqlite", (damaged / "index.sqlite").stat().st_size // 2)
    assert "run txstore verify" in refused("ls", damaged, code=5)
    message = refused("verify", damaged, code=5)
    assert "run txstore verify" not in message
    assert "back from a copy" in message


def test_daemon_options_become_a_policy(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import txstore.compaction.daemon as room

    seen: list[Any] = []

    class Report:
        errors = 0

        def to_dict(self) -> dict[str, Any]:
            return {}

    class Recorder:
        def __init__(self, store: Any, policy: Any, **options: Any) -> None:
            seen.append((policy, options))

        def run(self, *, once: bool = False) -> Report:
            seen.append(once)
            return Report()

    monkeypatch.setattr(room, "Daemon", Recorder)
    run("daemon", survey, "--once", "--interval", "2m", "--keep-last", 5, "--older-than", "1d", "--rate-limit", 1.5)
    (policy, _), once = seen
    assert once
    assert policy.interval_s == 120
    assert policy.keep_last == 5
    assert policy.older_than_s == timedelta(days=1).total_seconds()
    assert policy.rate_limit_bytes_s == 1_500_000
