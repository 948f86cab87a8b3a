"""A transaction reads everything that it has written, and nobody else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from histories import create, noise, plain, put, same

from txstore.errors import NotFoundError, ReadOnlyError


def test_cells_of_every_kind(store: Any) -> None:
    model = np.arange(48).reshape(8, 6)
    create(store, "a", model, chunks=(3, 4))
    mask = model % 5 == 0
    with store.transaction() as tx:
        array = tx["a"]
        array[2:5, 1:4] = 100
        model[2:5, 1:4] = 100
        same(array[...], model)
        array[::3, ::-2] = [1, 2, 3]
        model[::3, ::-2] = [1, 2, 3]
        same(array[...], model)
        array[mask] = -1
        model[mask] = -1
        same(array[...], model)
        array[[7, 0]] = 5
        model[[7, 0]] = 5
        array.oindex[[1, 6], [0, 5]] = [[1, 2], [3, 4]]
        model[np.ix_([1, 6], [0, 5])] = [[1, 2], [3, 4]]
        array.vindex[[3, 3, 4], [0, 5, 2]] = [7, 8, 9]
        model[[3, 3, 4], [0, 5, 2]] = [7, 8, 9]
        same(array[...], model)
        array.accumulate(np.s_[1:7, 2], 1000)
        model[1:7, 2] += 1000
        array.clear(np.s_[0:2, 0:2])
        model[0:2, 0:2] = 0
        array[4] = 44
        model[4] = 44
        array[...] = array[...] * 2
        model = model * 2
        same(array[...], model)
        same(array.oindex[[6, 1], ::-1], model[[6, 1], ::-1])
        same(array.vindex[[6, 1], [0, 5]], model[[6, 1], [0, 5]])
        same(array[mask], model[mask])
        same(np.asarray(tx["a"]), model)
        same(store["a"][...], np.arange(48).reshape(8, 6))
    same(store["a"][...], model)


def test_random_edits_read_as_numpy_at_every_step(store: Any) -> None:
    random = np.random.default_rng(11)
    model = noise((20, 20), "i8") // 4
    create(store, "a", model, chunks=(7, 6))
    for _ in range(4):
        with store.transaction() as tx:
            for _ in range(12):
                low = random.integers(0, 20, size=2)
                high = random.integers(low, 21)
                step = random.integers(1, 4, size=2)
                sel = tuple(slice(int(a), int(b), int(s)) for a, b, s in zip(low, high, step, strict=True))
                kind = random.integers(4)
                if kind == 0:
                    values = random.integers(0, 1000, size=model[sel].shape)
                    tx["a"][sel] = values
                    model[sel] = values
                elif kind == 1:
                    tx["a"].accumulate(sel, 7)
                    model[sel] += 7
                elif kind == 2:
                    tx["a"].clear(sel)
                    model[sel] = 0
                else:
                    mask = random.random((20, 20)) < 0.1
                    tx["a"][mask] = 3
                    model[mask] = 3
                same(tx["a"][...], model)
        same(store["a"][...], model)


def test_shapes_appends_and_attributes(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(3,), attributes={"k": 1})
    with store.transaction() as tx:
        array = tx["a"]
        array.append([10, 11])
        assert (array.shape, len(array), array.size, array.nbytes) == ((6,), 6, 6, 48)
        assert array[-1] == 11
        assert list(array) == [0, 1, 2, 3, 10, 11]
        array.resize((3,))
        assert array[...].tolist() == [0, 1, 2]
        array.resize((5,))
        assert tx["a"][...].tolist() == [0, 1, 2, 0, 0]
        array.attrs["k"] = 2
        array.attrs["new"] = {"x": [1]}
        assert plain(tx["a"].attrs) == {"k": 2, "new": {"x": [1]}}
        del array.attrs["k"]
        assert "k" not in tx["a"].attrs
        tx.attrs["root"] = True
        assert dict(tx.attrs) == {"root": True}
        assert (store["a"].shape, dict(store["a"].attrs), dict(store.snapshot().attrs)) == ((4,), {"k": 1}, {})


def test_names_and_listings(store: Any) -> None:
    create(store, "g/a", np.arange(4))
    create(store, "x", np.arange(4))
    with store.transaction() as tx:
        made = tx.create_array("g/new", shape=(3,), dtype="i4", chunks=(2,), attributes={"k": 1}, fill_value=8)
        made[1] = 5
        assert tx["g/new"][...].tolist() == [8, 5, 8]
        assert tx["g"]["new"].attrs["k"] == 1
        tx.create_group("h/deep")
        tx.move("x", "h/x")
        tx["h/x"][0] = 9
        del tx["g/a"]
        assert sorted(tx) == ["g", "h"]
        assert len(tx) == 2
        assert "x" not in tx and "h/x" in tx and "g/a" not in tx
        assert tx.get("x") is None and tx.get("g/a") is None
        assert [name for name, _ in tx.groups()] == ["g", "h"]
        assert [name for name, _ in tx["h"].arrays()] == ["x"]
        assert sorted(path for path, _ in tx.members(max_depth=None)) == ["g", "g/new", "h", "h/deep", "h/x"]
        assert tx["h/x"][...].tolist() == [9, 1, 2, 3]
        with pytest.raises(NotFoundError):
            tx["x"]
        assert sorted(store.snapshot()) == ["g", "x"]
    assert sorted(path for path, _ in store.snapshot().members(max_depth=None)) == [
        "g",
        "g/new",
        "h",
        "h/deep",
        "h/x",
    ]


def test_handles_see_what_other_handles_of_the_transaction_wrote(store: Any) -> None:
    create(store, "g/a", np.arange(4))
    with store.transaction() as tx:
        one, two = tx["g/a"], tx["g"]["a"]
        one[0] = 7
        two.append([9])
        assert two[0] == 7
        assert one[...].tolist() == [7, 1, 2, 3, 9]
        tx.move("g", "h")
        one[1] = 8  # a handle follows the identity
        assert tx["h/a"][...].tolist() == [7, 8, 2, 3, 9]
    assert store["h/a"][...].tolist() == [7, 8, 2, 3, 9]


def test_data_given_at_creation(store: Any) -> None:
    with store.transaction() as tx:
        array = tx.create_array("a", shape=(5,), dtype="i8", chunks=(2,), data=np.arange(5))
        assert array[...].tolist() == [0, 1, 2, 3, 4]
    same(store["a"][...], np.arange(5))


def test_what_is_read_is_not_what_is_stored(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        given = np.array([7, 8])
        tx["a"][0:2] = given
        given[:] = 0  # staged are the values, not the array
        found = tx["a"][...]
        found[:] = -1
        assert tx["a"][...].tolist() == [7, 8, 2, 3]
    again = store["a"][...]
    again[:] = -1
    assert store["a"][...].tolist() == [7, 8, 2, 3]


def test_two_transactions_do_not_see_each_other(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as one, store.transaction() as two:
        one["a"][0] = 1
        two["a"][1] = 10
        two.create_group("g")
        assert one["a"][...].tolist() == [1, 1, 2, 3]
        assert two["a"][...].tolist() == [0, 10, 2, 3]
        assert "g" not in one
        two.commit()
        assert one["a"][...].tolist() == [1, 1, 2, 3]
        assert "g" not in one


def test_a_large_staged_write_reads_back(store: Any) -> None:
    data = noise(1 << 19)
    create(store, "a", shape=data.shape, dtype="i4", chunks=(1 << 16,))
    with store.transaction() as tx:
        tx["a"][...] = data
        tx["a"][1000:2000] = 5
        data[1000:2000] = 5
        same(tx["a"][...], data)
        same(tx["a"][1 << 16 : 3 << 16 : 7], data[1 << 16 : 3 << 16 : 7])
    same(store["a"][...], data)


WRITES: dict[str, Callable[[Any], object]] = {
    "[]": lambda array: array.__setitem__(0, 1),
    "oindex": lambda array: array.oindex.__setitem__([0], 1),
    "vindex": lambda array: array.vindex.__setitem__([0], 1),
    "write": lambda array: array.write(0, 1),
    "append": lambda array: array.append([1]),
    "resize": lambda array: array.resize((9,)),
    "clear": lambda array: array.clear(...),
    "accumulate": lambda array: array.accumulate(0, 1),
    "set an attribute": lambda array: array.attrs.__setitem__("k", 2),
    "delete an attribute": lambda array: array.attrs.__delitem__("k"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_snapshots_only_read_and_say_how_to_write(store: Any, write: Callable[[Any], object]) -> None:
    create(store, "g/a", np.arange(4), attributes={"k": 1})
    snap = store.snapshot()
    for array in (store["g/a"], snap["g/a"], snap["g"]["a"]):
        with pytest.raises(ReadOnlyError, match="transaction"):
            write(array)
    put(store, "g/a", 0, 9)
    assert snap["g/a"][0] == 0
    assert dict(snap["g/a"].attrs) == {"k": 1}
