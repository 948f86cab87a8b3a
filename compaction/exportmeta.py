"""The documents of an exported hierarchy: Zarr v3 ``zarr.json``, or v2 ``.zarray``, ``.zgroup`` and ``.zattrs``.

All of them are strict JSON; a key is a path below the root of the export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from txstore.compaction.profiles import Form
from txstore.compaction.zarrv2 import codecs_to_v2, dtype_to_v2, fill_to_v2
from txstore.metadata import group_document


class Member(NamedTuple):
    """An array or group of an exported hierarchy.

    Attributes
    ----------
    path : str
        Below the root of the export; ``""`` is the root.
    attributes : dict
        As they are written.
    shape : tuple of int
        Of an array.
    form : Form or None
        Of an array; None for a group.
    """

    path: str
    attributes: dict[str, Any]
    shape: tuple[int, ...] = ()
    form: Form | None = None


def documents(members: list[Member], zarr_format: Literal[2, 3], *, consolidated: bool) -> Iterator[tuple[str, bytes]]:
    """(key, content) of every document; `members` begins with the root and has parents before children."""
    return _v3(members, consolidated) if zarr_format == 3 else _v2(members, consolidated)


def _v3(members: list[Member], consolidated: bool) -> Iterator[tuple[str, bytes]]:
    all_of_them: dict[str, Any] = {}
    for path, attributes, shape, form in members:
        document = group_document(attributes) if form is None else form.meta.to_document(shape, attributes)
        if not path:
            root = document
            continue
        yield f"{path}/zarr.json", _json(document)
        if consolidated:
            # As zarr-python writes it, and then looks for nothing below.
            all_of_them[path] = document if form is not None else {**document, **_inline({})}
    yield "zarr.json", _json({**root, **_inline(all_of_them)} if consolidated else root)


def _inline(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": metadata}}


def _v2(members: list[Member], consolidated: bool) -> Iterator[tuple[str, bytes]]:
    all_of_them: dict[str, Any] = {}
    for path, attributes, shape, form in members:
        prefix = f"{path}/" if path else ""
        if form is None:
            found: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": attributes}
        else:
            found = {".zarray": array_document_v2(form, shape), ".zattrs": attributes}
        for name, document in found.items():
            all_of_them[prefix + name] = document
            yield prefix + name, _json(document)
    if consolidated:
        yield ".zmetadata", _json({"metadata": all_of_them, "zarr_consolidated_format": 1})


def array_document_v2(form: Form, shape: tuple[int, ...]) -> dict[str, Any]:
    """The ``.zarray`` of an array."""
    meta = form.meta
    codecs = codecs_to_v2(meta.codecs)
    return {
        "shape": [int(extent) for extent in shape],
        "chunks": list(meta.chunks),
        "dtype": dtype_to_v2(meta.dtype),
        "fill_value": None if form.fill is None else fill_to_v2(meta.dtype, form.fill),
        "order": "C",
        "filters": codecs.filters,
        # The one that readers assume who do not know the field.
        "dimension_separator": ".",
        "compressor": codecs.compressor,
        "zarr_format": 2,
    }


def chunk_key(index: tuple[int, ...], zarr_format: Literal[2, 3]) -> str:
    """The key of a chunk (of a shard, where the array is written in shards) below its array."""
    if zarr_format == 3:
        return "/".join(["c", *map(str, index)])
    return ".".join(map(str, index)) or "0"


def chunk_index(key: str, zarr_format: Literal[2, 3], ndim: int) -> tuple[int, ...] | None:
    """The inverse of :func:`chunk_key`; None for what is no such key."""
    parts = key.split("/")[1:] if zarr_format == 3 else key.split(".")
    try:
        index = tuple(map(int, parts)) if ndim else ()
    except ValueError:
        return None
    # Spelled in another way, it is no key.
    spelled = len(index) == ndim and min(index, default=0) >= 0 and chunk_key(index, zarr_format) == key
    return index if spelled else None


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, allow_nan=False).encode("ascii")


__all__ = ["Member", "array_document_v2", "chunk_index", "chunk_key", "documents"]
