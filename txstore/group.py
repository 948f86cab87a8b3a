"""A group as a handle: its members, and what a transaction may do to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from txstore.array import Array
from txstore.attributes import Attributes
from txstore.creation import described, require_same
from txstore.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from txstore.index.lookup import NodeRow
from txstore.metadata import group_document
from txstore.names import check_name, shown
from txstore.tree import ROOT_ROW, Tree, find

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Group:
    """A group of one version, or as a transaction sees it. A Snapshot and a Transaction are groups, too: the root.

    Notes
    -----
    Safe for threads.
    """

    def __init__(self, tree: Tree, row: NodeRow = ROOT_ROW, path: str = "") -> None:
        self._tree = tree
        self._row = row
        self._path = path

    # --- what it is -----------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Where it hangs, without a leading slash; the root is ``""``."""
        return self._path

    @property
    def version(self) -> int:
        """The version that is read."""
        return self._tree.version

    @property
    def attrs(self) -> Attributes:
        """The attributes."""
        return Attributes(self._tree, self._row.id, self._path)

    @property
    def metadata(self) -> dict[str, Any]:
        """The Zarr v3 metadata document, a fresh dict."""
        return group_document(self.attrs.asdict())

    def __repr__(self) -> str:
        return f"<txstore.{type(self).__name__} {self._path or '/'!r} at version {self._tree.version}>"

    # --- members --------------------------------------------------------------------------------

    def _join(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name

    def _find(self, path: str) -> NodeRow | None:
        return find(self._tree, path, self._row)

    def _handle(self, row: NodeRow, path: str) -> Array | Group:
        return Array(self._tree, row, path) if row.kind == "array" else Group(self._tree, row, path)

    def __getitem__(self, path: str) -> Any:
        """The member at a path, an Array or a Group.

        Raises
        ------
        NotFoundError
            If there is none; it is a KeyError.
        InvalidInputError
            If the path is none.
        """
        row = self._find(path)
        if row is None:
            raise NotFoundError(f"there is no {shown(self._join(path))} at version {self._tree.version}")
        return self._handle(row, self._join("/".join(check_name(path))))

    def get(self, path: str, default: Any = None) -> Any:
        """The member at a path, or `default`."""
        row = self._find(path)
        return default if row is None else self._handle(row, self._join("/".join(check_name(path))))

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        try:
            return self._find(path) is not None
        except InvalidInputError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter([row.name for row in self._tree.children(self._row.id)])

    def __bool__(self) -> bool:
        return True  # a handle is there, also where it has no members

    def __len__(self) -> int:
        return len(self._tree.children(self._row.id))

    def _members(self, kind: str) -> Iterator[tuple[str, Any]]:
        for row in self._tree.children(self._row.id):
            if row.kind == kind:
                yield row.name, self._handle(row, self._join(row.name))

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """(name, array) of the direct members, by name."""
        return self._members("array")

    def groups(self) -> Iterator[tuple[str, Group]]:
        """(name, group) of the direct members, by name."""
        return self._members("group")

    def members(self, max_depth: int | None = None) -> Iterator[tuple[str, Array | Group]]:
        """(path relative to this group, member) of everything below, parents first, by name.

        Parameters
        ----------
        max_depth : int, optional
            0: direct members only; None: all the way down.

        Notes
        -----
        The number of queries does not depend on the number of members.
        """
        below = self._tree.all_nodes()

        def walk(parent: int, prefix: str, depth: int) -> Iterator[tuple[str, Array | Group]]:
            for row in below.get(parent, ()):
                relative = f"{prefix}{row.name}"
                yield relative, self._handle(row, self._join(relative))
                if row.kind == "group" and (max_depth is None or depth < max_depth):
                    yield from walk(row.id, relative + "/", depth + 1)

        return walk(self._row.id, "", 0)

    def tree(self) -> str:
        """The hierarchy as a drawing, one member a line."""
        below = self._tree.all_nodes()
        lines = [self._path or "/"]

        def walk(parent: int, indent: str, prefix: str) -> None:
            rows = below.get(parent, [])
            for i, row in enumerate(rows):
                last = i == len(rows) - 1
                text = row.name
                if row.kind == "array":
                    view = self._tree.view(row, self._join(prefix + row.name))
                    text += f" {view.shape} {view.meta.dtype}"
                lines.append(f"{indent}{'└── ' if last else '├── '}{text}")
                if row.kind == "group":
                    walk(row.id, indent + ("    " if last else "│   "), f"{prefix}{row.name}/")

        walk(self._row.id, "", "")
        return "\n".join(lines)

    # --- writing --------------------------------------------------------------------------------

    def create_array(
        self,
        path: str,
        shape: int | tuple[int, ...] | None = None,
        dtype: DTypeLike | None = None,
        *,
        chunks: Any = "auto",
        shards: Any = "auto",
        codecs: Any = "auto",
        fill_value: Any = None,
        dimension_names: Any = None,
        attributes: Any = None,
        data: ArrayLike | None = None,
        overwrite: bool = False,
    ) -> Array:
        """Make an array, and the groups above it that are missing.

        Parameters
        ----------
        path : str
            Relative to this group.
        shape : int or tuple of int, optional
            Extent of each axis; taken from `data` when left out.
        dtype : dtype, optional
            Any fixed-size NumPy dtype, so text has a width (``"U20"``); in native byte order, whatever is asked for.
            Taken from `data` when left out.
        chunks : "auto" or int or tuple of int
            Cells along each axis of the unit of encoding.
        shards : "auto", None or tuple of int
            Cells along each axis of what exports as one object; None: every chunk by itself. ``"auto"`` is None for
            arrays of fewer than 64 chunks, but for those with an axis of length 0, which are taken to grow.
        codecs : "auto" or sequence
            Zarr v3 codecs after ``bytes``, by name or with configuration; ``()`` is raw.
        fill_value : scalar, optional
            What unwritten cells hold; None is zero (NaT for times).
        dimension_names : sequence of str or None, optional
            Names of the axes.
        attributes : mapping, optional
            JSON values.
        data : array_like, optional
            Written at once.
        overwrite : bool
            Delete what is at `path`.

        Raises
        ------
        ReadOnlyError
            Through a snapshot.
        AlreadyExistsError
            If there is something at `path`, or an array above it.
        InvalidInputError, DTypeError
            If an argument can't be used.
        """
        array: Array = self._tree.writer(f"create_array({shown(path)})").create(
            self._row,
            self._path,
            path,
            kind="array",
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shards,
            codecs=codecs,
            fill_value=fill_value,
            dimension_names=dimension_names,
            attributes=attributes,
            data=data,
            overwrite=overwrite,
        )
        return array

    def create_group(self, path: str, *, attributes: Any = None, overwrite: bool = False) -> Group:
        """Make a group, and those above it that are missing.

        Raises
        ------
        ReadOnlyError, AlreadyExistsError, InvalidInputError
            As :meth:`create_array`.
        """
        group: Group = self._tree.writer(f"create_group({shown(path)})").create(
            self._row, self._path, path, kind="group", attributes=attributes, overwrite=overwrite
        )
        return group

    def require_group(self, path: str) -> Group:
        """The group at a path, made if it is not there.

        Raises
        ------
        ReadOnlyError, InvalidInputError
            Through a snapshot, or if the path is none.
        AlreadyExistsError
            If there is an array.
        """
        row = self._find(path)
        if row is None:
            group: Group = self._tree.writer(f"require_group({shown(path)})").create(
                self._row, self._path, path, kind="group", attributes=None, overwrite=False, implicit=True
            )
            return group
        if row.kind != "group":
            raise AlreadyExistsError(f"{self._join(path)!r} is an array, not a group")
        found: Group = self[path]
        return found

    def require_array(
        self,
        path: str,
        shape: int | tuple[int, ...] | None = None,
        dtype: DTypeLike | None = None,
        *,
        chunks: Any = "auto",
        shards: Any = "auto",
        codecs: Any = "auto",
        fill_value: Any = None,
        dimension_names: Any = None,
        attributes: Any = None,
        data: ArrayLike | None = None,
    ) -> Array:
        """The array at a path, made if it is not there.

        Parameters
        ----------
        path, shape, dtype, chunks, shards, codecs, fill_value, dimension_names
            As :meth:`create_array`. What is given must be what an array that is there has; what is left out is not
            looked at. A shape that is given looks at the ends of the array, which pins appends.
        attributes, data
            For an array that is made only. One that is there must have the shape and dtype of `data`; it keeps its
            attributes and its cells.

        Raises
        ------
        AlreadyExistsError
            If there is a group, or an array that is otherwise; the message names what differs.
        ReadOnlyError, InvalidInputError, DTypeError
            As :meth:`create_array`.
        """
        asked = {
            "chunks": chunks,
            "shards": shards,
            "codecs": codecs,
            "fill_value": fill_value,
            "dimension_names": dimension_names,
        }
        row = self._find(path)
        if row is None:
            return self.create_array(path, shape, dtype, **asked, attributes=attributes, data=data)
        if row.kind != "array":
            raise AlreadyExistsError(f"{self._join(path)!r} is a group, not an array")
        found: Array = self[path]
        shape, dtype = described(found.path, shape, dtype, data)
        # Looking at a shape that nobody asks for would pin appends.
        present = () if shape is None else found.shape
        meta = self._tree.view(row, found.path).meta
        require_same(found.path, meta, present, shape=shape, dtype=dtype, **asked)
        return found

    def __delitem__(self, path: str) -> None:
        self._tree.writer(f"del [{shown(path)}]").delete(self._row, self._path, path)

    def move(self, source: str, target: str) -> None:
        """Hang a member somewhere else; whatever others write to it meanwhile follows it.

        Raises
        ------
        NotFoundError, AlreadyExistsError
            If there is nothing at `source`, or something at `target`.
        InvalidInputError
            If `target` lies below `source`.
        ReadOnlyError
            Through a snapshot.
        """
        self._tree.writer(f"move({shown(source)}, {shown(target)})").move(self._row, self._path, source, target)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._tree, self._path)


def _reopen(tree: Tree, path: str) -> Any:
    return Group(tree)[path]
