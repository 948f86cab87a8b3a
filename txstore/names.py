"""Names of arrays and groups: what may be one, now and in every format; and text that goes into the index."""

from __future__ import annotations

from functools import lru_cache

from txstore.errors import InvalidInputError

#: UTF-8 bytes of one name: what a file system takes for a directory.
MAX_NAME_BYTES = 255
#: UTF-8 bytes of a path: an object store's keys end at 1024, and the key of a chunk is longer than the path.
MAX_PATH_BYTES = 896

#: Characters of a name that a message shows.
_SHOWN = 60
#: Bits of an integer that a message shows in full; Python itself refuses to write much larger ones.
_SHOWN_BITS = 200

# Keys that mean something in a Zarr hierarchy; some file systems don't tell case.
_RESERVED = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})


def check_name(path: str) -> tuple[str, ...]:
    """The names along a path such as ``"era5/t2m"``.

    Parameters
    ----------
    path : str
        Names with ``"/"`` between them, without one at either end.

    Returns
    -------
    tuple of str
        At least one.

    Raises
    ------
    InvalidInputError
        For a name that is empty, consists of dots, starts with ``"__"`` (which Zarr reserves), is a file of Zarr's
        own, holds a backslash or control characters, can't be written as UTF-8, or is too long.

    Examples
    --------
    >>> check_name("era5/t2m")
    ('era5', 't2m')
    """
    if not isinstance(path, str):
        raise InvalidInputError(f"a name is a string, not {type(path).__name__}")
    return _parts(path)


# Programs ask for the same few names again and again.
@lru_cache(maxsize=4096)
def _parts(path: str) -> tuple[str, ...]:
    parts = tuple(path.split("/"))
    for part in parts:
        fault = _fault(part)
        if fault:
            raise InvalidInputError(f"{shown(path)} can't be the name of an array or group: {fault}")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidInputError(f"{shown(path)} can't be a path: it is longer than {MAX_PATH_BYTES} bytes")
    return parts


def _fault(part: str) -> str | None:
    if not part:
        return "a part of it is empty; write names with single slashes between them, none at the ends"
    if not part.strip("."):
        return f"{shown(part)} means a directory, not a name"
    if part.startswith("__"):
        return "names that start with '__' are reserved by Zarr"
    if part.casefold() in _RESERVED:
        return f"{part!r} is a file of Zarr's own"
    if any(character == "\\" or character < " " or "\x7f" <= character < "\xa0" for character in part):
        return "a backslash or control character is in it"
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        return "it can't be written as UTF-8"
    return f"a part of it is longer than {MAX_NAME_BYTES} bytes" if size > MAX_NAME_BYTES else None


def check_text(what: str, value: object) -> str:
    """Text that is kept, or looked for, in the index, which holds UTF-8.

    Parameters
    ----------
    what : str
        For messages.
    value : str
        What was given for it. A shell of another encoding gives halves of surrogate pairs for its own letters.

    Raises
    ------
    InvalidInputError
        If it is no text, or can't be written as UTF-8.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{what}={value!r} must be a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"the {what} {shown(value)} can't be written as UTF-8") from None
    return value


def check_path(path: object) -> str:
    """A path that may be that of something, without slashes at its ends; ``""`` is everything.

    Raises
    ------
    InvalidInputError
        If it is no text, or can't be written as UTF-8.
    """
    return check_text("path", path).strip("/")


def shown(name: object) -> str:
    """What somebody gave as a name, or a number, for a message: quoted, and without its middle where it is long.

    Examples
    --------
    >>> print(shown("era5/t2m"), shown("x" * 300))
    'era5/t2m' 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' (300 characters)
    """
    if isinstance(name, int) and name.bit_length() > _SHOWN_BITS:
        return f"an integer of {name.bit_length()} bits"
    if not isinstance(name, str) or len(name) <= _SHOWN:
        return repr(name)
    half = _SHOWN // 2
    return f"{name[:half] + '...' + name[-half:]!r} ({len(name)} characters)"


__all__ = ["MAX_NAME_BYTES", "MAX_PATH_BYTES", "check_name", "check_path", "check_text", "shown"]
