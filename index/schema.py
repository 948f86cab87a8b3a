"""The tables of the index, described once for every database.

docs/index-schema.md says in prose what each column means; the names and meanings here are
a format and never change without a migration (``txstore.index.migrations``).

Two kinds of key recur. ``branch`` is a branch id: a branch is a lineage of (branch id, up to
version) pairs, see :class:`txstore.index.lookup.Lineage`. ``partition`` is the key that
:func:`txstore.grid.partition_key` makes, or :data:`txstore.grid.WHOLE`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

from txstore.index.format import FORMAT

metadata = MetaData()

#: A key of one number. In SQLite only INTEGER is the row's own number and needs no second tree.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: One row. Every head read and every commit reads it first.
store = Table(
    "store",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # always 1
    Column("uuid", LargeBinary(16), nullable=False),
    Column("format", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # raised by a restore: everything cached before is void
    Column("head", BigInteger, nullable=False),  # the newest version of the whole store, 0 at first
    Column("head_at", BigInteger, nullable=False),  # its committed_at, microseconds
    Column("next_node", BigInteger, nullable=False),  # the next id in nodes
    Column("next_branch", BigInteger, nullable=False),  # the next id in branches
    Column("maintenance", BigInteger, nullable=False),  # raised by each publication, expiry and vacuum
    Column("horizon", BigInteger, nullable=False),  # versions below it may not be read, but for roots
    Column("conflict_horizon", BigInteger, nullable=False),  # rows at or below it may be gone
    Column("created_at", BigInteger, nullable=False),
)

#: One row a version: writes, tags and branches alike. Never deleted.
commits = Table(
    "commits",
    metadata,
    Column("version", _Number, primary_key=True, autoincrement=False),
    Column("branch", BigInteger, nullable=True),  # null: a tag or branch was made, moved or deleted
    Column("committed_at", BigInteger, nullable=False, unique=True),  # microseconds, strictly monotone
    Column("txid", LargeBinary(16), nullable=False),  # once, as it is the key of txids
    Column("parents", LargeBinary, nullable=False),  # msgpack list of versions
    Column("author", Text, nullable=True),
    Column("message", Text, nullable=True),
    Column("properties", Text, nullable=True),  # JSON object
    Column("touched", LargeBinary, nullable=False),  # msgpack, see txstore.index.edits.Touched
    Column("bytes_written", BigInteger, nullable=False),
    Index("commits_by_branch", "branch", "version"),
)

#: What became of each transaction id. A row without version is a tombstone: it never will commit.
txids = Table(
    "txids",
    metadata,
    Column("txid", LargeBinary(16), primary_key=True),
    Column("version", BigInteger, nullable=True),
    sqlite_with_rowid=False,
)

branches = Table(
    "branches",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("parent", BigInteger, nullable=True),  # null for main
    Column("fork", BigInteger, nullable=False),  # the version of the parent that it starts from
    Column("created", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=True),
)

#: What a name meant from a version on. kind "tag": target is a version; kind "branch": a branch id. Null: deleted.
refs = Table(
    "refs",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("target", BigInteger, nullable=True),
    Column("target_branch", BigInteger, nullable=True),  # for a tag: the branch on which target is read
)

#: Identities. Node 0 is the root group and has no row in node_versions.
nodes = Table(
    "nodes",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # "array" or "group"
    Column("partition", Text, nullable=True),  # JSON list: the extent of a partition in cells, arrays only
    Column("created", BigInteger, nullable=False),
)

#: Where a node hangs, and its metadata document, from a version on.
node_versions = Table(
    "node_versions",
    metadata,
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("branch", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("parent", BigInteger, nullable=True),  # null: deleted
    Column("name", Text, nullable=True),
    Column("metadata", Text, nullable=True),  # Zarr v3 JSON without shape and attributes; null for groups
    Index("node_versions_by_name", "parent", "name", "version"),
    Index("node_versions_by_version", "version"),
    sqlite_with_rowid=False,
)

#: The shape is a log of its own; rank orders it among the fragments of the same version.
shapes = Table(
    "shapes",
    metadata,
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("branch", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("shape", LargeBinary, nullable=False),  # ndim little-endian int64
    Column("cuts", SmallInteger, nullable=False),  # 1: smaller along some axis than the row before it
    # What hides cells is found among a million appends without a look at them.
    Index("shapes_that_cut", "node", sqlite_where=text("cuts = 1"), postgresql_where=text("cuts = 1")),
    sqlite_with_rowid=False,
)

attributes = Table(
    "attributes",
    metadata,
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("branch", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("rank", Integer, nullable=False),  # its place among the attributes that the commit sets
    Column("value", Text, nullable=True),  # JSON; null: deleted
    Index("attributes_by_version", "version"),
    sqlite_with_rowid=False,
)

#: Files of tiles. state: "intent" (announced, maybe being written), "live", "doomed" (to be deleted).
segments = Table(
    "segments",
    metadata,
    Column("uuid", LargeBinary(16), primary_key=True),
    Column("state", Text, nullable=False),
    Column("holder", LargeBinary(16), nullable=True),  # of an intent
    Column("size", BigInteger, nullable=False),
    Column("refs", BigInteger, nullable=False),  # how many rows of fragments and bases point here
    Column("location", Text, nullable=True),  # null: the store's own file of that uuid
    Index("segments_by_state", "state"),
    sqlite_with_rowid=False,
)

#: Small segments, kept beside the index: one a commit at most.
blobs = Table(
    "blobs",
    metadata,
    Column("uuid", LargeBinary(16), primary_key=True),
    Column("refs", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: What one commit wrote into one partition of one array. docs/index-schema.md describes clip, frame and directory.
fragments = Table(
    "fragments",
    metadata,
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("partition", LargeBinary, primary_key=True),
    Column("branch", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),  # txstore.segment.Kind
    Column("masked", SmallInteger, nullable=False),  # 1: the cells are those of the mask, not the whole clip
    Column("clip", LargeBinary, nullable=False),  # lo then hi, 2 * ndim little-endian int64
    Column("frame", LargeBinary, nullable=True),  # lo, hi, phase, shift; null: clip, zeros, zeros
    Column("directory", LargeBinary, nullable=True),  # null: the bytes have been vacuumed
    Index("fragments_by_version", "node", "version"),
    sqlite_with_rowid=False,
)

#: The whole state of one partition at a version, as chunk tiles. Changes nothing that a reader can see.
bases = Table(
    "bases",
    metadata,
    Column("node", BigInteger, primary_key=True, autoincrement=False),
    Column("partition", LargeBinary, primary_key=True),
    Column("branch", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("uuid", LargeBinary(16), nullable=False),  # keys caches, for a row may be replaced by vacuum and race
    Column("clip", LargeBinary, nullable=False),
    Column("frame", LargeBinary, nullable=False),
    Column("directory", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

#: Who may do a maintenance task. The epoch is checked where the result is published.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", LargeBinary(16), nullable=True),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

#: Versions that must stay readable while somebody reads them.
pins = Table(
    "pins",
    metadata,
    Column("holder", LargeBinary(16), primary_key=True),
    Column("branch", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("expires_at", BigInteger, nullable=True),  # null: for as long as the holder lives
)

__all__ = ["FORMAT", "metadata"]
