"""Group commit: who holds the store's lock commits what others wait to commit along with their own, and syncs once.

Each is a commit of its own, with its own version, txid and checks; only the transaction of the database is shared. What
can't be committed is left to who has asked, who then finds out why.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from txstore.errors import CorruptionError
from txstore.index import editcodec
from txstore.index.commitlog import CommitRow
from txstore.index.edits import Edit
from txstore.index.engine import Head, Index
from txstore.locks import NotNeeded
from txstore.requests import MOST_BYTES, Request, Taken


class Errand:
    """An edit on its way into the index. Where it has to wait for the lock, who holds it may take it along.

    Parameters
    ----------
    index : Index
        The index.
    edit : Edit
        What is to be committed.

    Notes
    -----
    For one thread. From the first :meth:`wait` on, either :meth:`arrive` or :meth:`give_up` has to be called.

    Attributes
    ----------
    row : CommitRow or None
        The commit, once the answer has come: whatever is raised then.
    """

    __slots__ = ("_asked", "_edit", "_index", "_request", "row")

    def __init__(self, index: Index, edit: Edit) -> None:
        self._index = index
        self._edit = edit
        self._asked = False
        self._request: Request | None = None
        self.row: CommitRow | None = None

    def wait(self) -> None:
        """Ask, the first time; then look for the answer. To be called now and then while one waits for the lock.

        Raises
        ------
        NotNeeded
            If somebody has committed it: see :attr:`row`.
        """
        try:
            if not self._asked:
                self._asked = True
                self._ask()
            elif self._request is not None:
                self.row = self._answer(self._request)
                if self.row is not None:
                    raise NotNeeded(f"committed by who holds the lock, as version {self.row.version}")
        except OSError:
            return  # asking only saves time

    def _ask(self) -> None:
        index = self._index
        if index.dialect.requests is None or index.identity is None or not editcodec.portable(self._edit):
            return
        body = index.identity + editcodec.pack(self._edit)
        if len(body) <= MOST_BYTES:
            index.dialect.check_place()
            self._request = index.dialect.requests.ask(body)

    def _answer(self, request: Request) -> CommitRow | None:
        answer = request.answer
        if answer is None:
            return None
        edit = self._edit
        version, committed_at, parents, touched = msgpack.unpackb(answer)
        return CommitRow(
            version,
            edit.branch,
            committed_at,
            edit.txid,
            parents,
            edit.author,
            edit.message,
            edit.properties,
            touched,
            edit.bytes_written,
        )

    def arrive(self) -> bool:
        """Ask no longer, for one has the lock, or an answer; whether somebody may have committed it all the same."""
        request, self._request = self._request, None
        if request is None or self._index.dialect.requests is None:
            return False
        try:
            return request.in_doubt
        except OSError:
            return True
        finally:
            self._index.dialect.requests.end(request)

    def give_up(self) -> bool:
        """Ask no longer, without the lock; whether somebody may have committed it, or be about to."""
        request, self._request = self._request, None
        if request is None:
            return False
        try:
            return not request.withdraw()
        except OSError:
            return True
        finally:
            request.close()


def edit_of(taken: Taken, head: Head) -> Edit:
    """What is asked for, where it is for the store with this head.

    Raises
    ------
    CorruptionError
        If it is for another one, or malformed.
    """
    identity = head.identity
    if not taken.body.startswith(identity):
        raise CorruptionError("an edit for another store was handed over")
    return editcodec.unpack(taken.body[len(identity) :])


def answer(index: Index, done: Sequence[tuple[Taken, CommitRow]]) -> None:
    """Tell those who have asked that it is committed; once it is, and while one still holds the lock."""
    for taken, row in done:
        taken.answer(msgpack.packb([row.version, row.committed_at, row.parents, row.touched]))
    if done:
        index.dialect.lock.call_everybody()


__all__ = ["Errand", "answer", "edit_of"]
