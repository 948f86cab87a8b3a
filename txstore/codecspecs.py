"""Which codecs there are, and what their configuration says: the ``codecs`` of Zarr v3 metadata but for ``bytes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from txstore.errors import InvalidInputError

Codecs: TypeAlias = tuple[dict[str, Any], ...]

_BLOSC_NAMES = ("lz4", "lz4hc", "blosclz", "zlib", "zstd")

#: What may stand before a codec of each role ("bytes": the codec of that name).
_AFTER = {
    "array": {"array"},
    "shuffle": {"array", "bytes"},
    "compressor": {"array", "bytes", "shuffle", "checksum"},
    "checksum": {"array", "bytes", "shuffle", "compressor", "checksum"},
}
_PLACE = {
    "array": "it takes an array, not bytes",
    "shuffle": "it takes the bytes of whole cells",
    "compressor": "what comes before it has compressed the bytes already",
}


class _Field(NamedTuple):
    """One entry of a configuration: what it is when it is not given, and what it may be."""

    default: Any  # a value, or a function of the dtype
    allowed: Callable[[Any, np.dtype[Any]], bool]
    wanted: str


class _Spec(NamedTuple):
    role: str  # "array": from array to array; "shuffle": keeps the length; "compressor"; "checksum": adds to the length
    fields: dict[str, _Field]


def _span(default: Any, low: int, high: int) -> _Field:
    return _Field(default, lambda value, _: type(value) is int and low <= value <= high, f"from {low} to {high}")


def _choice(default: Any, *values: Any) -> _Field:
    def allowed(value: Any, dtype: np.dtype[Any]) -> bool:
        return any(type(value) is type(one) and value == one for one in values)

    return _Field(default, allowed, "one of " + ", ".join(map(repr, values)))


def _itemsize(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize


def _shuffle_for(dtype: np.dtype[Any]) -> str:
    return "bitshuffle" if dtype.itemsize == 1 else "shuffle"


def _same_dtype(value: Any, dtype: np.dtype[Any]) -> bool:
    try:
        return bool(np.dtype(value) == dtype)
    except TypeError:
        return False


_ZSTD = {"level": _span(0, -131072, 22), "checksum": _choice(False, False, True)}
_TYPESIZE = 2**31 - 1
_LOCATION = ("start", "end")
_DTYPE = _Field(lambda dtype: dtype.newbyteorder("<").str, _same_dtype, "the array's dtype")

#: In the order of the message that lists them. Configurations are filled up with zarr-python's defaults.
_SPECS: Final[dict[str, _Spec]] = {
    "zstd": _Spec("compressor", _ZSTD),
    "blosc": _Spec(
        "compressor",
        {
            "typesize": _span(_itemsize, 1, _TYPESIZE),
            "cname": _choice("zstd", *_BLOSC_NAMES),
            "clevel": _span(5, 0, 9),
            "shuffle": _choice(_shuffle_for, "noshuffle", "shuffle", "bitshuffle"),
            "blocksize": _span(0, 0, 2**31 - 1),
        },
    ),
    "gzip": _Spec("compressor", {"level": _span(5, 0, 9)}),
    "crc32c": _Spec("checksum", {}),
    "numcodecs.zlib": _Spec("compressor", {"level": _span(1, -1, 9)}),
    "numcodecs.gzip": _Spec("compressor", {"level": _span(1, 0, 9)}),
    "numcodecs.zstd": _Spec("compressor", _ZSTD),
    "numcodecs.lz4": _Spec("compressor", {"acceleration": _span(1, 1, 65537)}),
    "numcodecs.bz2": _Spec("compressor", {"level": _span(1, 1, 9)}),
    "numcodecs.lzma": _Spec(
        "compressor",
        {
            "format": _choice(1, 1),
            "check": _choice(-1, -1, 0, 1, 4, 10),
            "preset": _choice(None, None, *range(10)),
            "filters": _choice(None, None),
        },
    ),
    "numcodecs.blosc": _Spec(
        "compressor",
        {
            "cname": _choice("lz4", *_BLOSC_NAMES),
            "clevel": _span(5, 0, 9),
            "shuffle": _choice(1, -1, 0, 1, 2),
            "blocksize": _span(0, 0, 2**31 - 1),
            "typesize": _span(_itemsize, 1, _TYPESIZE),
        },
    ),
    "numcodecs.shuffle": _Spec(
        "shuffle",
        {
            "elementsize": _Field(
                _itemsize,
                lambda value, dtype: type(value) is int and value > 0 and dtype.itemsize % value == 0,
                "a divisor of the bytes of a cell",
            )
        },
    ),
    "numcodecs.delta": _Spec("array", {"dtype": _DTYPE, "astype": _DTYPE}),
    "numcodecs.crc32": _Spec("checksum", {"location": _choice("start", *_LOCATION)}),
    "numcodecs.crc32c": _Spec("checksum", {"location": _choice("end", *_LOCATION)}),
    "numcodecs.adler32": _Spec("checksum", {"location": _choice("start", *_LOCATION)}),
    "numcodecs.fletcher32": _Spec("checksum", {}),
    "numcodecs.jenkins_lookup3": _Spec("checksum", {"initval": _span(0, 0, 2**32 - 1), "prefix": _choice(None, None)}),
}
#: Codecs that exist, and why they are refused all the same.
_REFUSED = {
    **dict.fromkeys(
        ("numcodecs.bitround", "numcodecs.quantize", "numcodecs.fixedscaleoffset", "numcodecs.astype"),
        "it changes values, so that cells would read otherwise after compaction; round the values before writing them",
    ),
    **dict.fromkeys(
        ("transpose", "numcodecs.packbits"),
        "tiles have many shapes, and it depends on the shape; leave it out (importing re-encodes)",
    ),
    "sharding_indexed": "shards are given by shards=...",
}


def auto_codecs(dtype: np.dtype[Any]) -> Codecs:
    """The codecs that nobody chose; measured in docs/decisions/0002-default-codec.md."""
    if (dtype.kind in "SUV" and dtype.names is None) or dtype.itemsize > 255:
        return ({"name": "zstd", "configuration": {"level": 1, "checksum": False}},)
    shuffle = "bitshuffle" if dtype.kind in "fc" or dtype.itemsize == 1 else "shuffle"
    blosc = {"typesize": dtype.itemsize, "cname": "lz4", "clevel": 5, "shuffle": shuffle, "blocksize": 0}
    return ({"name": "blosc", "configuration": blosc},)


def resolve_codecs(codecs: Any, dtype: np.dtype[Any]) -> Codecs:
    """Codecs as a user names them, with their whole configuration.

    Parameters
    ----------
    codecs : "auto" or sequence of str or dict
        Zarr v3 names, or ``{"name": ..., "configuration": ...}``; ``()`` stores raw bytes. ``bytes`` may be named
        where it belongs; it is implied, and left out of the result.
    dtype : numpy.dtype
        The array's, which some defaults depend on.

    Returns
    -------
    tuple of dict
        As zarr-python writes them: array to array codecs first, then those from bytes to bytes.

    Raises
    ------
    InvalidInputError
        For a codec or setting that is unknown, changes values, or stands where it can't work.

    Examples
    --------
    >>> resolve_codecs(["zstd"], np.dtype("f4"))
    ({'name': 'zstd', 'configuration': {'level': 0, 'checksum': False}},)
    """
    if isinstance(codecs, str) and codecs == "auto":
        return auto_codecs(dtype)
    if isinstance(codecs, str | Mapping):
        codecs = (codecs,)
    if not isinstance(codecs, Sequence):
        raise InvalidInputError(f'codecs are "auto" or a sequence of names or dictionaries, not {codecs!r}')
    resolved = []
    roles: list[str] = []
    for codec in codecs:
        name, configuration = _named(codec)
        if name == "bytes":
            if set(roles) - {"array"} or configuration.get("endian", "little") != "little":
                raise InvalidInputError("'bytes' stands once, before all codecs that take bytes, and is little-endian")
            roles.append("bytes")
            continue
        spec = _spec(name)
        if not set(roles) <= _AFTER[spec.role]:
            raise InvalidInputError(f"codec {name!r} can't stand there: {_PLACE[spec.role]}")
        if spec.role == "array" and dtype.kind not in "iu":
            raise InvalidInputError(f"codec {name!r} is for whole numbers, not for {dtype}")
        roles.append(spec.role)
        full = {key: _value(name, key, field, configuration, dtype) for key, field in spec.fields.items()}
        unknown = configuration.keys() - spec.fields.keys()
        if unknown:
            raise InvalidInputError(
                f"codec {name!r} has no setting {', '.join(map(repr, sorted(unknown)))}; "
                f"it has {', '.join(spec.fields) or 'none'}"
            )
        resolved.append({"name": name} if name == "crc32c" else {"name": name, "configuration": full})
    return tuple(resolved)


def _named(codec: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(codec, str):
        return codec, {}
    if isinstance(codec, Mapping) and isinstance(codec.get("name"), str) and codec.keys() <= {"name", "configuration"}:
        configuration = codec.get("configuration")
        if configuration is None or isinstance(configuration, Mapping):
            return codec["name"], dict(configuration or {})
    raise InvalidInputError(f'a codec is a name, or {{"name": ..., "configuration": {{...}}}}, not {codec!r}')


def _spec(name: str) -> _Spec:
    spec = _SPECS.get(name)
    if spec is None:
        if name in _REFUSED:
            raise InvalidInputError(f"codec {name!r} can't be used: {_REFUSED[name]}")
        raise InvalidInputError(f"unknown codec {name!r}; known are {', '.join(_SPECS)}")
    return spec


def _value(name: str, key: str, field: _Field, configuration: dict[str, Any], dtype: np.dtype[Any]) -> Any:
    value = configuration.get(key)
    if value is None and None is not field.default:
        return field.default(dtype) if callable(field.default) else field.default
    if not field.allowed(value, dtype):
        raise InvalidInputError(f"{key} of codec {name!r} is {field.wanted}, not {value!r}")
    return value


__all__ = ["Codecs", "auto_codecs", "resolve_codecs"]
