"""Profiles: what an export makes of an array, so that those who are to read it can.

``native`` keeps every dtype and codec as zarr-python writes them. ``portable`` is what all readers open: core
numerics, times as CF int64, the codecs gzip, zlib, zstd and blosc, and a name for every dimension.
"""

from __future__ import annotations

import base64
import contextlib
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from txstore.codecspecs import Codecs, resolve_codecs
from txstore.compaction.cftimes import NAT, cf_time
from txstore.compaction.zarrv2 import dtype_to_v2, has_official_name, holdable, is_compressor, plain_name, says_exactly
from txstore.errors import DTypeError, InvalidInputError
from txstore.fills import cast_fill
from txstore.metadata import ArrayMetadata

Profile = Literal["native", "portable"]
Convert = Callable[[NDArray[Any]], NDArray[Any]]

#: Where xarray looks for the names of dimensions in v2.
DIMENSIONS = "_ARRAY_DIMENSIONS"
_MASK = "_FillValue"
_PHONY = re.compile(r"phony_dim_\d+(_\d+)?", re.ASCII)

_PORTABLE_CODECS = ("gzip", "zstd", "blosc")
_QUIET_NAN = {"f": np.nan, "c": complex(np.nan, np.nan)}
#: An array that has to be written without gaps may have so many chunks.
_MOST_DENSE_CHUNKS = 1 << 24


@dataclass(frozen=True, eq=False)
class Form:
    """How one array is written.

    Attributes
    ----------
    meta : ArrayMetadata
        As its document says; the codecs of a v2 document are derived from it.
    attributes : dict
        As its document says.
    fill : ndarray or None
        0-d, what the document gives as fill value; None is v2's ``null``.
    convert : callable or None
        From stored cells to written ones, where the dtype differs.
    copies : bool
        Whether the encoded bytes of a whole stored chunk are what is to be written.
    dense : bool
        Whether chunks that hold nothing but fill are written, because the document can't say what they hold.
    notes : tuple of str
        What the user should know.
    """

    meta: ArrayMetadata
    attributes: dict[str, Any]
    fill: NDArray[Any] | None
    convert: Convert | None = None
    copies: bool = True
    dense: bool = False
    notes: tuple[str, ...] = ()


def form_of(
    path: str,
    meta: ArrayMetadata,
    shape: tuple[int, ...],
    attributes: dict[str, Any],
    *,
    profile: Profile,
    zarr_format: Literal[2, 3],
    sharded: bool,
) -> Form:
    """How an array is written under a profile.

    Parameters
    ----------
    path : str
        The array's, for messages.
    meta, shape, attributes
        The array's.
    sharded : bool
        Whether shards, where the array has them, are written as one object each.

    Raises
    ------
    InvalidInputError
        If the profile or the format can't hold the array; the message names it and what can.
    """
    notes: tuple[str, ...] = ()
    if meta.shards is not None and sharded and meta.dtype.kind == "V":
        notes = ("written in chunks, for zarr-python can't open shards of records or raw bytes",)
    if not sharded or notes:
        meta = replace(meta, shards=None)
    form = Form(meta, attributes, meta.fill_value, notes=notes)
    try:
        if profile == "portable":
            form = _portable(path, form, shape, zarr_format)
        if zarr_format == 2:
            dtype_to_v2(form.meta.dtype)
            form = _in_v2(form)
        if profile == "portable":
            form = _unmasked(form) if zarr_format == 2 else _mask_for_xarray(form)
    except DTypeError as error:
        raise InvalidInputError(f"array {path!r}: {error}; zarr_format=3 holds it") from None
    chunks = prod(-(-extent // chunk) for extent, chunk in zip(shape, meta.chunks, strict=True))
    if form.dense and chunks > _MOST_DENSE_CHUNKS:
        raise InvalidInputError(
            f"array {path!r}: its fill value {meta.fill_value[()]!r} can't be stated in Zarr v{zarr_format} with "
            f"profile={profile!r}, and its {chunks} chunks are too many to write them all; zarr_format=3 with "
            "profile='native' holds it"
        )
    return form


# --- v2 ------------------------------------------------------------------------------------------


def _in_v2(form: Form) -> Form:
    meta, attributes = form.meta, dict(form.attributes)
    notes = list(form.notes)
    codecs = holdable(meta.codecs)
    if codecs != meta.codecs:
        dropped = ", ".join(plain_name(codec) for codec in meta.codecs[len(codecs) :])
        notes.append(f"Zarr v2 has no place for {dropped} behind the compressor: left out")
    if meta.dimension_names is not None:
        attributes[DIMENSIONS] = list(meta.dimension_names)
    return replace(
        form,
        meta=replace(meta, codecs=codecs),
        attributes=attributes,
        copies=form.copies and codecs == meta.codecs,
        dense=form.dense or not says_exactly(meta.dtype, meta.fill_value),
        notes=tuple(notes),
    )


# --- what marks missing cells --------------------------------------------------------------------


def _unmasked(form: Form) -> Form:
    """Keep xarray, for which the fill value of v2 marks missing cells, from masking real ones."""
    attributes = dict(form.attributes)
    fill = form.meta.fill_value
    mask = _declared_mask(attributes, form.meta.dtype)
    if mask is not None:
        attributes.pop(_MASK)
    elif form.meta.dtype.kind in _QUIET_NAN and np.isnan(fill) and not form.dense:
        mask = fill  # NaN where NaN is: nothing is lost
    same = mask is not None and mask.tobytes() == fill.tobytes()
    return replace(form, attributes=attributes, fill=mask, dense=form.dense or not same)


def _declared_mask(attributes: dict[str, Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The value that the attributes say marks missing cells: a number, or what xarray makes of one in v3."""
    value = attributes.get(_MASK)
    if value is None or isinstance(value, bool) != (dtype.kind == "b"):
        return None
    with contextlib.suppress(DTypeError, ValueError, TypeError, struct.error):
        if isinstance(value, list) and dtype.kind == "c":
            real, imag = map(_number, value)
            return cast_fill(np.array(complex(real, imag)).astype(dtype), dtype)
        if isinstance(value, str) and dtype.kind == "f":
            return cast_fill(np.array(_number(value)).astype(dtype), dtype)
        if isinstance(value, int | float):
            return cast_fill(value, dtype)
    return None


def _number(value: Any) -> float:
    if isinstance(value, int | float):
        return float(value)
    return np.nan if value == "NaN" else float(struct.unpack("<d", base64.standard_b64decode(value))[0])


def _mask_for_xarray(form: Form) -> Form:
    """Say in v3 what marks missing cells as xarray does, which opens no array of floats that says it with a number."""
    mask = _declared_mask(form.attributes, form.meta.dtype)
    if mask is None or mask.dtype.kind not in _QUIET_NAN:
        return form
    parts = [mask.real, mask.imag] if mask.dtype.kind == "c" else [mask]
    coded = [base64.standard_b64encode(struct.pack("<d", float(part))).decode("ascii") for part in parts]
    return replace(form, attributes={**form.attributes, _MASK: coded if len(coded) > 1 else coded[0]})


# --- portable ------------------------------------------------------------------------------------


def _portable(path: str, form: Form, shape: tuple[int, ...], zarr_format: int) -> Form:
    meta = form.meta
    notes = []
    if meta.dtype.kind in "mM":
        form = _as_cf_time(path, form, zarr_format)
    elif meta.dtype.kind not in "biufc":
        raise _refusal(path, meta.dtype)
    dtype, fill = form.meta.dtype, form.meta.fill_value
    if dtype.kind in _QUIET_NAN and np.isnan(fill) and not says_exactly(dtype, fill):
        fill = cast_fill(_QUIET_NAN[dtype.kind], dtype)
        form = replace(form, dense=True)
    codecs, same = _portable_codecs(form.meta.codecs, dtype, zarr_format)
    if not same:
        before = ", ".join(plain_name(codec) for codec in form.meta.codecs)
        after = ", ".join(plain_name(codec) for codec in codecs)
        notes.append(f"codecs {before} replaced by {after}" if after else f"codecs {before} left out")
    names = form.meta.dimension_names
    known = names if names is not None else form.attributes.get(DIMENSIONS)
    names = _named(known if isinstance(known, list | tuple) and len(known) == meta.ndim else (None,) * meta.ndim, shape)
    adapted = ArrayMetadata(dtype, fill, meta.chunks, meta.shards, codecs, names)
    return replace(form, meta=adapted, fill=fill, copies=form.copies and same, notes=(*form.notes, *notes))


def _named(names: Sequence[Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    """A name for every dimension, since xarray opens no array without; those that are there stay.

    Equal names mean equal extents, in a group and those above it: a name is made of the extent, as netCDF and h5netcdf
    make one for each. A name that an earlier export has made is made again, for the array may have grown since.
    """
    found: list[str] = []
    for name, extent in zip(names, shape, strict=True):
        if not isinstance(name, str) or not name or _PHONY.fullmatch(name):
            name = f"phony_dim_{extent}"
            repeated = sum(one.startswith(f"{name}_") or one == name for one in found)
            name += f"_{repeated}" if repeated else ""
        found.append(name)
    return tuple(found)


def _refusal(path: str, dtype: np.dtype[Any]) -> InvalidInputError:
    return InvalidInputError(
        f"array {path!r}: profile='portable' holds core numerics and times that CF has units for, not {dtype}; "
        "profile='native' holds it"
    )


def _as_cf_time(path: str, form: Form, zarr_format: int) -> Form:
    meta = form.meta
    time = cf_time(meta.dtype)
    if time is None:
        raise _refusal(path, meta.dtype)
    attributes = dict(form.attributes)
    notes = list(form.notes)
    for key, value in {**time.attributes, _MASK: NAT}.items():
        if attributes.get(key, value) != value:
            notes.append(f"attribute {key!r} was {attributes[key]!r}, which does not fit int64: it is {value!r} now")
        attributes[key] = value
    int64 = np.dtype(np.int64)
    fill = cast_fill(int(time.convert(meta.fill_value)), int64)
    codecs = resolve_codecs(meta.codecs, int64)
    return replace(
        form,
        meta=ArrayMetadata(int64, fill, meta.chunks, meta.shards, codecs, meta.dimension_names),
        attributes=attributes,
        convert=time.convert,
        copies=time.same,
        notes=tuple(notes),
    )


def _portable_codecs(codecs: Codecs, dtype: np.dtype[Any], zarr_format: int) -> tuple[Codecs, bool]:
    """Codecs that all readers have, and whether the encoded bytes are still those."""
    if not codecs:
        return (), True
    compressor = next((codec for codec in codecs if is_compressor(codec)), None)
    name = "" if compressor is None else plain_name(compressor)
    settings = {} if compressor is None else dict(compressor.get("configuration", {}))
    alone = len(codecs) == 1
    shuffled = any(plain_name(codec) in ("shuffle", "delta") for codec in codecs)
    if name == "zlib" and not shuffled:
        if zarr_format == 2 and compressor is not None:
            return (compressor,), alone
        return resolve_codecs([{"name": "gzip", "configuration": {"level": max(settings["level"], 1)}}], dtype), False
    if name in _PORTABLE_CODECS and not shuffled and compressor is not None:
        if name == "blosc" and not has_official_name(compressor):
            wanted = {-1: None, 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
            settings["shuffle"] = wanted[settings["shuffle"]]
        return resolve_codecs([{"name": name, "configuration": settings}], dtype), alone
    if compressor is None and not shuffled:
        return (), False  # checksums only
    return resolve_codecs([{"name": "blosc", "configuration": {"cname": "zstd", "clevel": 5}}], dtype), False


__all__ = ["DIMENSIONS", "Form", "Profile", "form_of"]
