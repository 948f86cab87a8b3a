"""What Zarr v2 says otherwise than v3: dtypes, fill values and codecs, in both directions.

The specification of v2 is https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html; codecs are those of numcodecs.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.codecspecs import Codecs
from txstore.errors import DTypeError, InvalidInputError
from txstore.fills import fill_to_zarr

_PREFIX = "numcodecs."
_COMPRESSORS = frozenset({"zstd", "blosc", "gzip", "zlib", "lz4", "bz2", "lzma"})
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
#: Where numcodecs puts a checksum unless it is told otherwise.
_LOCATIONS = {"crc32": "start", "adler32": "start", "crc32c": "end"}
_SHUFFLE_NAMES = {number: name for name, number in _SHUFFLES.items()}


def plain_name(codec: Mapping[str, Any]) -> str:
    """The name of a codec in numcodecs and in v2, whichever of its v3 names it has."""
    return str(codec["name"]).removeprefix(_PREFIX)


def is_compressor(codec: Mapping[str, Any]) -> bool:
    """Whether a codec is what v2 calls a compressor."""
    return plain_name(codec) in _COMPRESSORS


def has_official_name(codec: Mapping[str, Any]) -> bool:
    """Whether the codec is named as in the Zarr v3 specification, and not by its place in a Python library."""
    return not str(codec["name"]).startswith(_PREFIX)


# --- dtypes and fill values ----------------------------------------------------------------------


def dtype_to_v2(dtype: np.dtype[Any]) -> str | list[list[str]]:
    """The ``dtype`` of a ``.zarray``.

    Raises
    ------
    DTypeError
        For nested records: zarr-python 3 can't open those that it writes itself.
    """
    if dtype.names is None:
        return dtype.newbyteorder("<").str
    fields = []
    for name in dtype.names:
        if dtype[name].names is not None:
            raise DTypeError(f"a record within a record ({name!r}) can't be opened from Zarr v2")
        fields.append([name, dtype[name].newbyteorder("<").str])
    return fields


def fill_to_v2(dtype: np.dtype[Any], fill: NDArray[Any]) -> Any:
    """The ``fill_value`` of a ``.zarray``; of NaN it keeps no payload, see :func:`says_exactly`."""
    if dtype.kind == "S":
        # Of the full width: TensorStore refuses a shorter one.
        return base64.standard_b64encode(np.asarray(fill, dtype).tobytes()).decode("ascii")
    return _canonical(fill_to_zarr(dtype, fill))


def _canonical(json: Any) -> Any:
    if isinstance(json, list):
        return [_canonical(part) for part in json]
    return "NaN" if isinstance(json, str) and json.startswith("0x") else json


def says_exactly(dtype: np.dtype[Any], fill: NDArray[Any]) -> bool:
    """Whether every reader of v2 gets the bits of this fill value back.

    Not so for a NaN with a payload of its own, nor for a complex number of which one part is NaN, which zarr 2
    misreads. Chunks that hold nothing else must then be written all the same.
    """
    json = fill_to_zarr(dtype, fill)
    if dtype.kind == "c":
        return ("NaN" in json) == (json == ["NaN", "NaN"]) and bool(_canonical(json) == json)
    return dtype.kind != "f" or bool(_canonical(json) == json)


# --- codecs --------------------------------------------------------------------------------------


class V2Codecs(NamedTuple):
    """The codecs of a ``.zarray``.

    Attributes
    ----------
    filters : list of dict or None
        Applied first to last when encoding.
    compressor : dict or None
        Applied last.
    """

    filters: list[dict[str, Any]] | None
    compressor: dict[str, Any] | None


def holdable(codecs: Codecs) -> Codecs:
    """The part of a chain that v2 can hold: filters and one compressor, which is the last.

    What follows the compressor, a checksum, is left out; chunks have to be encoded anew then.
    """
    for position, codec in enumerate(codecs):
        if is_compressor(codec):
            return codecs[: position + 1]
    return codecs


def codecs_to_v2(codecs: Codecs) -> V2Codecs:
    """The codecs of a ``.zarray`` from a chain that is :func:`holdable`."""
    chain = [_to_v2(codec) for codec in codecs]
    compressor = chain.pop() if codecs and is_compressor(codecs[-1]) else None
    return V2Codecs(chain or None, compressor)


def _to_v2(codec: Mapping[str, Any]) -> dict[str, Any]:
    name = plain_name(codec)
    settings = dict(codec.get("configuration", {}))
    if name == "blosc":
        # numcodecs takes the size of a cell from the array; older ones do not know the setting.
        settings.pop("typesize", None)
        settings["shuffle"] = _SHUFFLES.get(settings["shuffle"], settings["shuffle"])
    elif name == "zstd" and not settings.get("checksum"):
        settings.pop("checksum", None)  # likewise
    elif settings.get("location") == _LOCATIONS.get(name):
        settings.pop("location", None)  # likewise
    return {"id": name, **settings}


def codecs_from_v2(
    filters: Sequence[Mapping[str, Any]] | None, compressor: Mapping[str, Any] | None, dtype: np.dtype[Any]
) -> list[dict[str, Any]]:
    """The same chain in v3 names, for :func:`txstore.codecspecs.resolve_codecs` to judge.

    Raises
    ------
    InvalidInputError
        For what is no description of a codec.
    """
    return [_from_v2(codec, dtype) for codec in (*(filters or ()), *([] if compressor is None else [compressor]))]


def _from_v2(codec: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
    if not isinstance(codec, Mapping) or not isinstance(codec.get("id"), str):
        raise InvalidInputError(f"{codec!r} is no codec of Zarr v2")
    name, settings = codec["id"], {key: value for key, value in codec.items() if key != "id"}
    if name == "blosc":
        settings["typesize"] = dtype.itemsize
        shuffle = settings.get("shuffle", 1)
        if shuffle == -1:
            shuffle = 2 if dtype.itemsize == 1 else 1
        settings["shuffle"] = _SHUFFLE_NAMES.get(shuffle, shuffle)
        if dtype.itemsize > 255:  # blosc knows no larger cells, and treats them as bytes
            settings["typesize"] = 1
    elif name == "zstd":
        settings.setdefault("checksum", False)
    elif name == "crc32c" and settings.get("location", "end") == "end":
        settings = {}
    elif name != "gzip":
        name = _PREFIX + name
    return {"name": name, "configuration": settings} if settings else {"name": name}


__all__ = [
    "V2Codecs",
    "codecs_from_v2",
    "codecs_to_v2",
    "dtype_to_v2",
    "fill_to_v2",
    "has_official_name",
    "holdable",
    "is_compressor",
    "plain_name",
    "says_exactly",
]
