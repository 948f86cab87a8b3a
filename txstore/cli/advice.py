"""What to do next, in the terms of the command line.

The library speaks to people who write Python: ``overwrite=True replaces an export``. Here its advice is put into
options and commands, for all commands alike and where their errors end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Parameters of the library that a command takes as an option of the same name.
PARAMETERS = (
    "branch",
    "incremental",
    "index",
    "interval_s",
    "keep_last",
    "layout",
    "message",
    "metrics_host",
    "metrics_port",
    "min_fragments",
    "older_than",
    "older_than_s",
    "overwrite",
    "path",
    "profile",
    "rate_limit_bytes_s",
    "vacuum_interval_s",
    "zarr_format",
)

# A name in quotes, or a part of one, is somebody's and no advice.
_ARGUMENT = re.compile(rf"(?<![\w'\"/.-])({'|'.join(PARAMETERS)})=(?:True\b|'([\w.-]*)'|(\d[\w.+-]*))?")

#: What has no option of that name, by the end of the message where it stands; before the rule for all options.
_PHRASES = tuple(
    (re.compile(python), command)
    for python, command in (
        (r"; mode='a' makes one$", "; 'txstore init' makes one"),
        (r"; open it with mode='r\+'$", ""),
        (r" or store\.import_zarr\(\)$", ""),
        (r"; delete it, or choose another place with path=$", "; choose another place with --path"),
        (r", or give index= a database server$", ""),
        (r"; call store\.resolve\(txid\)$", "; 'txstore log STORE --json' lists its txid if it has"),
        (r"^as_of=(.+) lies in the future$", r"the time \1 lies in the future"),
    )
)
_DIFFERENT = re.compile(r"(?<= was exported with another )[\w, ]+(?=; use the same)")
_VERIFY = re.compile(r"; run txstore verify$")

_RESTORE = "put the index (index.sqlite) back from a copy of the whole store; export what can still be read first"
#: By the kind of a problem that verification finds.
_NEXT = {
    "segment": (
        "put the segments that are named back from a copy of the store, for they never change; where there is none, "
        "write these cells again, then expire the damaged versions and vacuum"
    ),
    "orphan": (
        "see whether index.sqlite is an older copy, or another store's; if it is the right one, delete the files that "
        "no row knows"
    ),
}


def reworded(message: str, command: str = "") -> str:
    """A message of the library for who typed ``txstore COMMAND``: options instead of arguments.

    Parameters
    ----------
    message : str
        The message.
    command : str
        Which command it ended. ``verify`` is not told to run itself.
    """
    for python, ours in _PHRASES:
        message = python.sub(ours, message)
    message = _DIFFERENT.sub(lambda names: re.sub(r"\w+", lambda name: option(name[0]), names[0]), message)
    message = _ARGUMENT.sub(_as_typed, message)
    return _VERIFY.sub(f"; {_RESTORE}", message) if command == "verify" else message


def option(parameter: str) -> str:
    """The option that sets ``parameter``: units are part of its value, not of its name."""
    return "--" + re.sub(r"(_bytes)?_s$", "", parameter).replace("_", "-")


def _as_typed(argument: re.Match[str]) -> str:
    name, text, number = argument.groups()
    value = number if text is None else text or "''"
    return option(name) if value is None else f"{option(name)} {value}"


def without_verify(message: str) -> str:
    """The message of a problem that verification has found, without the advice to verify."""
    return _VERIFY.sub("", message)


def after_verify(kinds: Iterable[str]) -> list[str]:
    """What to do about problems of these kinds: one line for each thing, in the order of the kinds."""
    return list(dict.fromkeys(_NEXT.get(kind, _RESTORE) for kind in kinds))


__all__ = ["PARAMETERS", "after_verify", "option", "reworded", "without_verify"]
