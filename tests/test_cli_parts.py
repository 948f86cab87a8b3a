"""The parts of the command line that need no store: selections, references, output and pixels."""

from __future__ import annotations

import json
import math
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from txstore.boxes import Box
from txstore.cli import advice, output, raster, refs, selections
from txstore.cli.app import app
from txstore.cli.dump import blocks, text, wrap
from txstore.cli.exits import ExitCode, exit_code, printable
from txstore.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    CorruptionError,
    InvalidIndexError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)

# -- selections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("0", (0,)),
        ("-1, +2", (-1, 2)),
        ("0,:,:", (0, slice(None), slice(None))),
        ("[1:2:3, ...]", (slice(1, 2, 3), ...)),
        (" ::-1 ", (slice(None, None, -1),)),
        ("...", (...,)),
    ],
)
def test_selections_parse(given_text: str, expected: tuple[object, ...]) -> None:
    assert selections.parse(given_text) == expected


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "[]",
        ",",
        "0,",
        "1.5",
        "a",
        "1:2:3:4",
        "::0",
        "...,...",
        "None",
        "1e3",
        "0x10",
        "1_000",
        "9" * 40,
        "()",
        "1;2",
    ],
)
def test_what_is_no_selection_is_refused(hostile: str) -> None:
    with pytest.raises(InvalidInputError):
        selections.parse(hostile)


SLICES = st.builds(
    slice,
    st.none() | st.integers(-8, 8),
    st.none() | st.integers(-8, 8),
    st.none() | st.integers(-4, 4).filter(bool),
)


@given(st.data(), st.lists(st.integers(0, 6), min_size=0, max_size=3))
def test_resolved_selections_pick_what_numpy_picks(data: st.DataObject, shape: list[int]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    items: list[Any] = [
        data.draw(SLICES | st.integers(-extent, extent - 1) if extent else SLICES)
        for extent in shape[: data.draw(st.integers(0, len(shape)))]
    ]
    if len(items) < len(shape) and data.draw(st.booleans()):
        items.append(...)
    axes = selections.resolve(items, shape)
    np.testing.assert_array_equal(array[selections.index(axes)], array[tuple(items)])
    assert selections.shape_of(axes) == array[tuple(items)].shape
    shown = selections.parse(selections.show(axes)) if axes else ()
    np.testing.assert_array_equal(array[cast(Any, shown)], array[tuple(items)])


def test_selections_outside_of_an_array_are_refused() -> None:
    with pytest.raises(InvalidIndexError, match="axis 1 with 3 cells"):
        selections.resolve((0, 3), (2, 3))
    with pytest.raises(InvalidIndexError, match="2 dimensions"):
        selections.resolve((0, 0, 0), (2, 3))


@given(st.lists(st.integers(0, 7), max_size=4), st.integers(1, 20))
def test_blocks_of_a_dump_are_small_and_cover_everything_in_order(shape: list[int], cells: int) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    axes = selections.resolve((...,), shape)
    parts = [array[selections.index(block)] for block in blocks(axes, cells)]
    assert all(part.size <= cells for part in parts)
    seen = np.concatenate([part.ravel() for part in parts]) if parts else np.array([])
    np.testing.assert_array_equal(seen, array.ravel())


def test_long_rows_are_wrapped() -> None:
    lines = list(wrap(map(str, range(100)), "[0, 0]  "))
    assert all(len(line) <= 102 for line in lines)
    assert lines[1].startswith("        ")
    assert [int(word) for line in lines for word in line.replace("[0, 0]", "").replace(",", " ").split()] == [
        *range(100)
    ]


def test_values_as_text() -> None:
    assert text(np.float32(0.1)) == "0.1"
    assert text(np.str_('"')) == r'"\""'
    assert text(np.datetime64("NaT")) == "NaT"


# -- references -----------------------------------------------------------------------------------

STORE = cast(
    Any, SimpleNamespace(tags=lambda: {"v1": 3, "both": 1, "2026-01-01": 2}, branches=lambda: {"main": 9, "both": 4})
)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (None, {"branch": "main"}),
        ("12", {"version": 12}),
        ("v1", {"tag": "v1"}),
        ("main", {"branch": "main"}),
        ("tag:both", {"tag": "both"}),
        ("branch:both", {"branch": "both"}),
        ("2026-01-01", {"tag": "2026-01-01"}),
        ("2026-01-02T03:04Z", {"as_of": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}),
        ("2026-01-02T05:04+02:00", {"as_of": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}),
        ("gone@12", {"branch": "gone", "version": 12}),
        ("gone@2026-01-02T03:04Z", {"branch": "gone", "as_of": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}),
    ],
)
def test_references_parse(given_text: str | None, expected: dict[str, object]) -> None:
    ref = refs.parse(STORE, given_text)
    found = {name: getattr(ref, name) for name in ("branch", "version", "as_of", "tag")}
    assert {name: value for name, value in found.items() if value is not None} == expected


@pytest.mark.parametrize("wrong", ["both", "2026-01-02", "2026-01-02T03:04", "2026-13-01T00:00Z", "main@soon"])
def test_ambiguous_names_and_bad_times_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidInputError):
        refs.parse(STORE, wrong)


@pytest.mark.parametrize("unknown", ["nothing", "", "-1", "v2"])
def test_unknown_names_are_not_found(unknown: str) -> None:
    with pytest.raises(NotFoundError):
        refs.parse(STORE, unknown)


def test_durations() -> None:
    assert refs.duration("1.5h") == timedelta(minutes=90)
    assert refs.age("2w") == timedelta(days=14)
    assert refs.age("2026-01-01T00:00Z") == datetime(2026, 1, 1, tzinfo=UTC)
    for wrong in ("", "5", "h", "-1d", "1y", "999999999w", "1d2h"):
        with pytest.raises(InvalidInputError):
            refs.age(wrong)


# -- output ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    box: Box
    when: datetime


def test_anything_becomes_strict_json() -> None:
    value = {
        "thing": Thing(Box((0, 1), (2, 3)), datetime(2026, 1, 1, tzinfo=UTC)),
        "floats": [math.nan, -math.inf, np.float32(1.5)],
        "array": np.array([[1, 2]]),
        "bytes": b"\x01",
        "enum": ExitCode.USAGE,
        "complex": 1j,
        1: timedelta(seconds=2),
    }
    assert json.loads(json.dumps(output.plain(value), allow_nan=False)) == {
        "thing": {"box": [[0, 1], [2, 3]], "when": "2026-01-01T00:00:00.000000Z"},
        "floats": ["NaN", "-Infinity", 1.5],
        "array": [[1, 2]],
        "bytes": "01",
        "enum": 2,
        "complex": [0.0, 1.0],
        "1": 2.0,
    }


def test_records_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    output.record({"bytes_copied": 1536, "chunks_written": 1234, "ok": True, "none": None, "version": 1234})
    output.table(("NAME", "N"), [("a", "1"), ("long\nname", "22")], right=("N",))
    assert capsys.readouterr().out.splitlines() == [
        "bytes copied    1.5 KiB (1,536 bytes)",
        "chunks written  1234",
        "ok              yes",
        "version         1234",
        "NAME         N",
        "a            1",
        r"long\nname  22",
    ]


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with output.progress("working") as update:
        assert update is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with output.progress("working", quiet=True) as update:
        assert update is None
    with output.progress("working") as update:
        assert update is not None
        update(SimpleNamespace(done=1, total=2, unit="chunks", label="dem"))
        update(SimpleNamespace(done=2, total=None, unit="chunks", label=""))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "working" in captured.err


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[0m\n\x9b") == r"a\x1b[0m\n\x9b"
    assert printable("é\n", keep="\n") == "é\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("x"), 3),
        (AlreadyExistsError("x"), 4),
        (CorruptionError("x"), 5),
        (InvalidIndexError("x"), 2),
        (StorageError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


# -- advice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("there is something at x already; overwrite=True replaces it", "--overwrite replaces it"),
        ("profile='native' holds them", "--profile native holds them"),
        ("x needs zarr_format=3", "needs --zarr-format 3"),
        ("metrics_host='' must be an address", "--metrics-host '' must"),
        ("interval_s=1e+300 must be a number", "--interval 1e+300 must"),
        ("rate_limit_bytes_s=0 must be more", "--rate-limit 0 must"),
        (str(CommitUnknownError(uuid.UUID(int=0))), "'txstore log STORE --json'"),
        ("x was exported with another path, zarr_format; use the same", "another --path, --zarr-format;"),
        # What somebody has called so is no advice.
        ("there is no 'overwrite=True'", "'overwrite=True'"),
        ("there is nothing at /data/profile='x'", "/data/profile='x'"),
        ("there is no 'my-path=3/layout=4'", "'my-path=3/layout=4'"),
        ("x.path=3 is not there", "x.path=3"),
    ],
)
def test_advice_in_options(message: str, expected: str) -> None:
    assert expected in advice.reworded(message)


def test_advice_names_options_that_there_are() -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    options = {name for command in commands for parameter in command.params for name in parameter.opts}
    assert {advice.option(parameter) for parameter in advice.PARAMETERS} <= options


def test_advice_after_verification_is_said_once() -> None:
    assert advice.after_verify([]) == []
    assert len(advice.after_verify(["segment", "segment"])) == 1
    assert len(advice.after_verify(["node", "segment", "commit", "orphan"])) == 3


# -- pixels ---------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 100), st.integers(2, 200))
def test_pictures_fit(rows: int, columns: int, high: int, wide: int) -> None:
    (down, across), square = raster.fit((rows, columns), high, wide)
    assert 1 <= down <= max(1, high)
    assert 1 <= across <= max(1, wide)
    if square and min(down, across) > 10:
        assert down / across == pytest.approx(rows / columns, rel=0.25)
    pixels = raster.resample(np.zeros((rows, columns), dtype="b"), (down, across))
    assert pixels.shape == (down, across)


def test_scaling_copes_with_every_float() -> None:
    largest = np.finfo("f8").max
    np.testing.assert_array_equal(raster.scale(np.array([-largest, 0, largest]), -largest, largest), [0, 0.5, 1])
    np.testing.assert_array_equal(raster.scale(np.array([1.0, np.nan]), 1, 1), [0.5, np.nan])
    np.testing.assert_array_equal(raster.scale(np.array([-largest, 1, largest, np.nan]), 1, 1), [0, 0.5, 1, np.nan])
    np.testing.assert_array_equal(raster.scale(np.array([-np.inf, np.inf]), 0, 1), [0, 1])
    assert raster.limits(np.array([np.nan, np.inf]), None, None) == (0.0, 0.0)
    assert raster.limits(np.array([1.0, 3.0, np.inf]), None, 2.0) == (1.0, 2.0)
    assert raster.limits(np.array([1.0, 3.0]), None, 0.0) == (0.0, 0.0)
    assert raster.limits(np.array([1.0, 3.0]), 4.0, None) == (4.0, 4.0)


def test_what_can_be_drawn() -> None:
    assert raster.numbers(np.array([3 + 4j])).tolist() == [5.0]
    assert raster.numbers(np.array([True])).tolist() == [1.0]
    assert np.isnan(raster.numbers(np.array(["NaT"], "M8[s]"))).all()
    for wrong in (np.array(["a"]), np.zeros(1, dtype=[("a", "i4")])):
        with pytest.raises(InvalidInputError, match="can't be drawn"):
            raster.numbers(wrong)


@pytest.mark.parametrize("name", sorted(raster.COLORMAPS))
def test_the_ends_of_the_colour_maps_are_matplotlibs(name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    where = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]])
    ours = raster.colors(where, name).astype(int)
    theirs = np.round(matplotlib.colormaps[name](where)[..., :3] * 255).astype(int)
    assert np.abs(ours - theirs).max() <= 2


def test_missing_values_are_blank() -> None:
    scaled = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, 1.0]])
    first, second = raster.colored(scaled, "gray")
    assert first.plain == "▀ "
    assert second.plain == " ▀"
    assert list(raster.shaded(np.array([[0.0, np.nan, 1.0]]), raster.ASCII)) == [". @"]
