"""What verification has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or odd.

    Attributes
    ----------
    kind : str
        ``"index"``, ``"commit"``, ``"node"``, ``"fragment"``, ``"base"``, ``"segment"`` or ``"orphan"``; of notices
        ``"stray"``.
    where : str
        The row, array, segment or file.
    message : str
        What is the matter with it.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}: {self.message}"


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong.

    Attributes
    ----------
    problems : tuple of Problem
        Empty: all is well.
    rows : int
        Rows of fragments and bases.
    tiles : int
        Places whose bytes were read and decoded.
    bytes : int
        Encoded bytes.
    notices : tuple of Problem
        What is no damage, but was not expected: files below ``segments`` that are not the store's, and that
        nothing of it will ever read or remove.
    """

    problems: tuple[Problem, ...]
    rows: int = 0
    tiles: int = 0
    bytes: int = 0
    notices: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; notices do not count."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return {"ok": self.ok, **asdict(self)}


@dataclass
class Findings:
    """What has been found so far."""

    problems: list[Problem] = field(default_factory=list)
    #: What is wrong with a segment, if it is still in use.
    doubts: list[tuple[tuple[bytes, bool], Problem]] = field(default_factory=list)
    notices: list[Problem] = field(default_factory=list)
    rows: int = 0
    tiles: int = 0
    n_bytes: int = 0
    refs: Counter[tuple[bytes, bool]] = field(default_factory=Counter)
    seen: set[tuple[bytes, int]] = field(default_factory=set)

    def add(self, kind: str, where: str, message: object) -> None:
        """Note what is wrong."""
        self.problems.append(Problem(kind, where, str(message)))

    def doubt(self, segment: tuple[bytes, bool], where: str, message: object) -> None:
        """Note what is wrong with the bytes of a segment (its uuid, and whether it is inline)."""
        self.doubts.append((segment, Problem("segment", where, str(message))))

    def notice(self, kind: str, where: str, message: str) -> None:
        """Note what is odd."""
        self.notices.append(Problem(kind, where, message))

    def report(self) -> VerifyReport:
        """All of it."""
        return VerifyReport(tuple(self.problems), self.rows, self.tiles, self.n_bytes, tuple(self.notices))


__all__ = ["Findings", "Problem", "VerifyReport"]
