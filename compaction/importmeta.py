"""What the metadata of a Zarr array mean to a store: the array to make, and how its chunks lie in the source."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from txstore.codecspecs import Codecs, resolve_codecs
from txstore.compaction.profiles import DIMENSIONS
from txstore.compaction.zarrv2 import codecs_from_v2, plain_name
from txstore.dtypes import has_byte_order, parse_dtype
from txstore.errors import DTypeError, FormatError, InvalidInputError
from txstore.fills import cast_fill, fill_to_zarr
from txstore.metadata import ArrayMetadata

_SHARD_INDEX = ("bytes", "crc32c")


@dataclass(frozen=True)
class ChunkLayout:
    """Where encoded chunks lie in the source, and how they are encoded there, as far as we know the ways.

    Attributes
    ----------
    prefix : str
        What a key begins with: ``"c/"`` in v3.
    separator : str
        Between the coordinates.
    codecs : tuple of dict
        The chain, in v3 names.
    swapped : bool
        Whether the numbers are big-endian.
    """

    prefix: str
    separator: str
    codecs: Codecs
    swapped: bool

    def key(self, index: tuple[int, ...]) -> str:
        """The key of a chunk (of a shard, where there are shards) below its array."""
        if not index:
            return self.prefix.rstrip("./") or "0"
        return self.prefix + self.separator.join(map(str, index))

    def index(self, key: str, ndim: int) -> tuple[int, ...] | None:
        """The inverse of :meth:`key`; None for what is no chunk's."""
        if not key.startswith(self.prefix):
            return None
        parts = key[len(self.prefix) :].split(self.separator)
        if len(parts) != ndim or not all(re.fullmatch(r"0|[1-9][0-9]{0,17}", part, re.ASCII) for part in parts):
            return None
        return tuple(map(int, parts))


@dataclass(frozen=True, eq=False)
class ImportedArray:
    """An array to make.

    Attributes
    ----------
    meta : ArrayMetadata
        Everything but shape and attributes.
    shape : tuple of int
        The extent of each axis.
    attributes : dict
        Strict JSON.
    layout : ChunkLayout or None
        None: only zarr-python can read its chunks.
    notes : tuple of str
        What is otherwise than in the source.
    """

    meta: ArrayMetadata
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    layout: ChunkLayout | None
    notes: tuple[str, ...]


def imported_array(path: str, array: Any) -> ImportedArray:
    """What a zarr-python array means to us.

    Parameters
    ----------
    path : str
        Where it lies in the source, for messages.
    array : zarr.Array
        As zarr-python has opened it.

    Raises
    ------
    InvalidInputError
        If it can't be held; the message names it.
    """
    notes: list[str] = []
    attributes = attributes_of(f"array {path or '/'!r}", array, notes)
    document = json.loads(json.dumps(array.metadata.to_dict(), default=_refused))
    fill = np.asarray(array.fill_value)
    if document["zarr_format"] == 3 and fill.dtype.kind in "fc":
        document["fill_value"] = fill_to_zarr(fill.dtype, fill)  # zarr-python keeps the bits of a NaN, but not here
    try:
        if document["zarr_format"] == 3:
            meta, layout = _from_v3(document, notes)
        else:
            meta, layout = _from_v2(array, document, attributes, notes)
    except (InvalidInputError, FormatError) as error:
        kind = type(error) if isinstance(error, InvalidInputError) else InvalidInputError
        raise kind(f"array {path or '/'!r} can't be imported: {error}") from None
    return ImportedArray(meta, tuple(int(extent) for extent in array.shape), attributes, layout, tuple(notes))


def _refused(value: Any) -> Any:
    return str(value)


# --- v3 ------------------------------------------------------------------------------------------


def _from_v3(document: dict[str, Any], notes: list[str]) -> tuple[ArrayMetadata, ChunkLayout | None]:
    try:
        meta = ArrayMetadata.from_document(document)
    except DTypeError:
        raise
    except InvalidInputError as error:
        meta = ArrayMetadata.from_document(document, codecs="auto")
        notes.append(f"codecs replaced by {_shown(meta.codecs)}: {error}")
        return meta, None
    keys = document["chunk_key_encoding"]
    default = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if default else ".")
    chain = document["codecs"]
    if meta.shards is not None:
        configuration = chain[0]["configuration"]
        chain = configuration["codecs"]
        names = tuple(codec["name"] for codec in configuration["index_codecs"])
        swapped_index = any(
            codec.get("configuration", {}).get("endian", "little") != "little"
            for codec in configuration["index_codecs"]
        )
        if names != _SHARD_INDEX or swapped_index or configuration.get("index_location", "end") != "end":
            return meta, None
    if keys["name"] not in ("default", "v2") or separator not in (".", "/"):
        return meta, None
    swapped = has_byte_order(meta.dtype) and any(
        codec["name"] == "bytes" and codec.get("configuration", {}).get("endian") == "big" for codec in chain
    )
    if swapped and _depends_on_order(meta.codecs):
        return meta, None
    return meta, ChunkLayout(f"c{separator}" if default else "", separator, meta.codecs, swapped)


def _depends_on_order(codecs: Codecs) -> bool:
    return any(plain_name(codec) == "delta" for codec in codecs)


def _shown(codecs: Codecs) -> str:
    return ", ".join(plain_name(codec) for codec in codecs) or "none"


# --- v2 ------------------------------------------------------------------------------------------


def _from_v2(
    array: Any, document: dict[str, Any], attributes: dict[str, Any], notes: list[str]
) -> tuple[ArrayMetadata, ChunkLayout | None]:
    found = np.dtype(array.dtype)
    dtype = parse_dtype(found)
    ndim = len(document["shape"])
    names = attributes.get(DIMENSIONS)
    dimension_names = None
    if isinstance(names, list) and len(names) == ndim and all(name is None or isinstance(name, str) for name in names):
        dimension_names = tuple(names)
        del attributes[DIMENSIONS]
    fill = array.fill_value
    if fill is None:
        # What zarr-python reads where there is no chunk.
        fill = array.metadata.dtype.default_scalar()
        notes.append(f"fill value null: it is {cast_fill(fill, dtype)[()]} now")
    known = document["order"] == "C"
    try:
        codecs = resolve_codecs(codecs_from_v2(document["filters"], document["compressor"], dtype), dtype)
    except InvalidInputError as error:
        codecs = resolve_codecs("auto", dtype)
        notes.append(f"codecs replaced by {_shown(codecs)}: {error}")
        known = False
    chunks = tuple(max(int(extent), 1) for extent in document["chunks"])
    meta = ArrayMetadata(dtype, cast_fill(np.asarray(fill, dtype), dtype), chunks, None, codecs, dimension_names)
    swapped = found.byteorder == ">" and has_byte_order(dtype)
    if dtype.names is not None and found != dtype:
        known = False
    if not known or (swapped and _depends_on_order(codecs)):
        return meta, None
    return meta, ChunkLayout("", document.get("dimension_separator", "."), codecs, swapped)


# --- attributes ----------------------------------------------------------------------------------


def attributes_of(what: str, node: Any, notes: list[str]) -> dict[str, Any]:
    """Attributes as strict JSON: bare NaN and infinities, which Python's JSON takes, become the strings of Zarr.

    Parameters
    ----------
    what : str
        What has them, for messages.
    node : zarr.Array or zarr.Group
        As zarr-python has opened it.
    notes : list of str
        What was replaced is added to it.

    Raises
    ------
    InvalidInputError
        If they are none.
    """
    try:
        found = node.attrs.asdict()
    except (TypeError, ValueError):
        raise InvalidInputError(f"{what} can't be imported: its attributes are no JSON object") from None
    return {key: _strict(value, key, notes) for key, value in found.items()}


def _strict(value: Any, where: str, notes: list[str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        text = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        notes.append(f"attribute {where!r} was a bare {text}, which JSON has not: it is the string {text!r} now")
        return text
    if isinstance(value, Mapping):
        return {str(key): _strict(item, f"{where}.{key}", notes) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item, f"{where}[{position}]", notes) for position, item in enumerate(value)]
    return value


__all__ = ["ChunkLayout", "ImportedArray", "attributes_of", "imported_array"]
