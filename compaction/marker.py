"""The marker of an export: a small file in it that says of which store and version it is, and how it was made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from txstore.compaction.profiles import Form
from txstore.errors import AlreadyExistsError
from txstore.failures import storage_error
from txstore.index.commitlog import Identity

#: The file with the marker. It lies in the first array's directory, where no reader lists: at the root zarr-python
#: would warn of it.
MARKER = ".txstore-export.json"
#: The number of the form of the marker, and of what the exported bytes are made like. Raised with either.
FORMAT = 3

#: What to do where an export can't be brought up to date.
ADVICE = "export it whole with overwrite=True"

_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", MARKER)


@dataclass(frozen=True)
class Exported:
    """One array of an earlier export.

    Attributes
    ----------
    path : str
        Below its root.
    node : int
        The array's identity in the store.
    shape : tuple of int
        At that version.
    form : str
        Fingerprint of how it was written, shape, names of dimensions and attributes apart.
    """

    path: str
    node: int
    shape: tuple[int, ...]
    form: str


@dataclass(frozen=True)
class Marker:
    """What an export was made from.

    Attributes
    ----------
    store : str
        The UUID of the store, hexadecimal.
    epoch : int
        Of the store: raised when it was restored from a copy, after which versions mean something else.
    made : Identity
        The commit that was exported. In a store that was copied, or restored from a copy, its number may be another
        one's, and so may the number of a branch that has no commits of its own, and an id that the maker of a
        transaction has chosen; but not all of these and the microsecond.
    options : dict
        JSON values: those arguments of the export that its bytes depend on.
    arrays : tuple of Exported
        In the order of their paths.
    """

    store: str
    epoch: int
    made: Identity
    options: Mapping[str, Any]
    arrays: tuple[Exported, ...]

    def encode(self) -> bytes:
        """The content of the marker's file."""
        value = {
            "format": FORMAT,
            "store": self.store,
            "epoch": self.epoch,
            "version": self.made.version,
            "branch": self.made.branch,
            "txid": self.made.txid.hex(),
            "committed_at": self.made.committed_at,
            "options": self.options,
            "arrays": [[one.path, one.node, one.shape, one.form] for one in self.arrays],
        }
        return json.dumps(value, allow_nan=False).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Marker:
        """The inverse of :meth:`encode`.

        Raises
        ------
        ValueError
            If it is none, or of another form.
        """
        value = json.loads(data)
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"its format is {value['format']!r}, this is {FORMAT}")
            arrays = tuple(
                Exported(str(path), int(node), tuple(map(int, shape)), str(form))
                for path, node, shape, form in value["arrays"]
            )
            epoch, version, branch, committed_at = (
                int(value[key]) for key in ("epoch", "version", "branch", "committed_at")
            )
            made = Identity(version, branch, bytes.fromhex(value["txid"]), committed_at)
            return cls(str(value["store"]), epoch, made, dict(value["options"]), arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is malformed: {error!r}") from error


def fingerprint(form: Form) -> str:
    """Two forms with the same fingerprint make the same bytes of the same cells, and put them under the same keys."""
    facts = [replace(form.meta, dimension_names=None).stored(), form.dense, form.convert is None]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


# --- finding it ----------------------------------------------------------------------------------


def first_array(root: str) -> str | None:
    """The path of the first array below a directory, by name; None when there is none."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                found = {entry.name: entry.is_dir() for entry in entries}
        except OSError as error:
            raise storage_error(f"list {os.path.join(root, folder)}", error) from error
        if _is_array(os.path.join(root, folder), found):
            return folder
        below = sorted((name for name, is_dir in found.items() if is_dir), reverse=True)
        folders += [f"{folder}/{name}" if folder else name for name in below]
    return None


def _is_array(folder: str, names: Mapping[str, bool]) -> bool:
    if ".zarray" in names:
        return True
    if "zarr.json" not in names:
        return False
    try:
        with open(os.path.join(folder, "zarr.json"), "rb") as file:
            return bool(json.load(file)["node_type"] == "array")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_marker(root: str) -> Marker:
    """The marker of the export in a directory.

    Raises
    ------
    AlreadyExistsError
        If there is none: the hierarchy was not made by an export, or somebody has changed it.
    """
    first = first_array(root)
    if first is None:
        return Marker("", 0, Identity(), {}, ())
    try:
        with open(os.path.join(root, first, MARKER), "rb") as file:
            return Marker.decode(file.read())
    except (OSError, ValueError) as error:
        why = "it has no marker of an export" if isinstance(error, OSError) else f"its marker can't be used: {error}"
        raise AlreadyExistsError(f"{root} can't be brought up to date: {why}; {ADVICE}") from None


def folders_of(root: str, array: Exported) -> Iterator[tuple[str, list[str]]]:
    """(path below the array, names of the chunks or shards in it) of each folder of an array in an export.

    Those that lie in the same folder come one after the other, in any order.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        names = []
        try:
            with os.scandir(os.path.join(root, array.path, folder)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{folder}/{entry.name}" if folder else entry.name)
                    elif entry.name not in _DOCUMENTS:
                        names.append(entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error(f"list {os.path.join(root, array.path, folder)}", error) from error
        if names:
            yield folder, names


__all__ = ["ADVICE", "MARKER", "Exported", "Marker", "fingerprint", "first_array", "folders_of", "read_marker"]
