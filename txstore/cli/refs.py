"""REF: one way to name a state of the store, the same for every command.

========================  ==========================================================
``12``                    the state after version 12
``NAME``                  a tag or a branch; where both have the name, say which:
``tag:NAME``              the tag
``branch:NAME``           the head of the branch
``2026-05-01T12:00Z``     the newest state of main at that time; an offset is needed
``NAME@12``               version 12 as seen from a branch
``NAME@2026-05-01T12Z``   that branch at that time, even if it has been deleted since
========================  ==========================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from txstore.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from txstore.snapshot import Snapshot
    from txstore.store import Store

MAIN = "main"

_NUMBER = re.compile(r"\d{1,18}")
_LIKE_A_TIME = re.compile(r"\d{4}-\d{2}(-\d{2})?([T ].*)?|\d{8}T.*")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed REF.

    Attributes
    ----------
    text : str
        What was typed.
    branch, version, as_of, tag
        The arguments of ``Store.snapshot``.
    """

    text: str
    branch: str | None = None
    version: int | None = None
    as_of: datetime | None = None
    tag: str | None = None

    def snapshot(self, store: Store) -> Snapshot:
        """The state that this names.

        Raises
        ------
        NotFoundError
            There is no such version, tag or branch.
        SnapshotExpiredError
            The version has been expired.
        """
        wanted: dict[str, Any] = {
            name: value for name in ("branch", "version", "as_of", "tag") if (value := getattr(self, name)) is not None
        }
        return store.snapshot(**wanted)


def parse(store: Store, text: str | None) -> Ref:
    """The state that ``text`` names; the head of main for ``None``.

    Raises
    ------
    NotFoundError
        ``text`` is no number, no time, no tag and no branch.
    InvalidInputError
        ``text`` is ambiguous, or a time without an offset.
    """
    if text is None:
        return Ref(MAIN, branch=MAIN)
    for prefix in ("tag", "branch"):
        if text.startswith(f"{prefix}:"):
            name = text.removeprefix(f"{prefix}:")
            return Ref(text, tag=name) if prefix == "tag" else Ref(text, branch=name)
    if _NUMBER.fullmatch(text):
        return Ref(text, version=int(text))
    is_tag, is_branch = text in store.tags(), text in store.branches()
    if is_tag and is_branch:
        raise InvalidInputError(f"{text!r} is a tag and a branch: say tag:{text} or branch:{text}")
    if is_tag or is_branch:
        return Ref(text, tag=text) if is_tag else Ref(text, branch=text)
    if _LIKE_A_TIME.fullmatch(text):
        return Ref(text, as_of=moment(text))
    branch, at, state = text.rpartition("@")
    if at and branch:
        if _NUMBER.fullmatch(state):
            return Ref(text, branch=branch, version=int(state))
        return Ref(text, branch=branch, as_of=moment(state))
    raise NotFoundError(f"there is no tag and no branch {text!r}, and it is neither a version nor a time")


def moment(text: str) -> datetime:
    """An ISO 8601 time with an offset.

    Raises
    ------
    InvalidInputError
        It is no time, or has no offset.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"{text!r} is no ISO 8601 time such as 2026-05-01T12:00Z") from None
    if when.tzinfo is None:
        clock = when.isoformat(timespec="auto")
        raise InvalidInputError(f"{text!r} has no offset from UTC: say {clock}Z or {clock}+02:00")
    return when


def age(text: str) -> timedelta | datetime:
    """``30d``, ``12h``, ``90m``, ``45s`` or ``2w`` as a duration; an ISO 8601 time as itself.

    Raises
    ------
    InvalidInputError
        It is neither, or a time to come.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        if _LIKE_A_TIME.fullmatch(text):
            when = moment(text)
            # A mistyped year would give up all that is not named.
            if when > datetime.now(UTC):
                raise InvalidInputError(f"{text!r} lies in the future: every version is older")
            return when
        raise InvalidInputError(f"{text!r} is neither a duration such as 30d, 12h, 90m or 2w nor an ISO 8601 time")
    return duration(text)


def duration(text: str) -> timedelta:
    """``30d``, ``12h``, ``90m``, ``45s`` or ``2w``.

    Raises
    ------
    InvalidInputError
        It is something else.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(f"{text!r} is no duration such as 30d, 12h, 90m, 45s or 2w")
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise InvalidInputError(f"{text!r} is longer than a duration can be") from None


__all__ = ["MAIN", "Ref", "age", "duration", "moment", "parse"]
