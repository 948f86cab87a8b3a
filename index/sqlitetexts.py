"""The statements of the index as text for SQLite, for lineages of one part.

Made by ``python -m txstore.index.texts``; not to be edited.
"""
# fmt: off

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[str, str]] = {
    "all attributes/1": (
        'SELECT attributes.node, attributes."key", attributes.version, attributes.value FROM attributes WHERE'
        " attributes.branch = :branch0 AND attributes.version <= :upto0 AND attributes.version > :after ORDER"
        " BY attributes.version, attributes.rank"
    ),
    "all nodes/1": (
        "SELECT node_versions.node, nodes.kind, node_versions.parent, node_versions.name, "
        "node_versions.metadata, nodes.partition, node_versions.version FROM node_versions JOIN nodes ON "
        "nodes.id = node_versions.node WHERE node_versions.branch = :branch0 AND node_versions.version <= "
        ":upto0 AND node_versions.version > :after AND node_versions.parent IS NOT NULL AND NOT (EXISTS "
        "(SELECT * FROM node_versions AS node_versions_1 WHERE node_versions_1.node = node_versions.node AND "
        "node_versions_1.version > node_versions.version AND node_versions_1.branch = :branch0 AND "
        "node_versions_1.version <= :upto0 AND node_versions_1.version > :after))"
    ),
    "all shapes that cut/1": (
        "SELECT shapes.node, shapes.version, shapes.rank, shapes.shape FROM shapes WHERE shapes.branch = "
        ":branch0 AND shapes.version <= :upto0 AND shapes.version > :after AND shapes.cuts = 1 ORDER BY "
        "shapes.node, shapes.version, shapes.rank"
    ),
    "announce segment/0": (
        "INSERT INTO segments (uuid, state, holder, size, refs, location) VALUES (:uuid, :state, :holder, "
        ":size, :refs, :location)"
    ),
    "attributes/1": (
        'SELECT attributes.node, attributes."key", attributes.version, attributes.value FROM attributes WHERE'
        " attributes.branch = :branch0 AND attributes.version <= :upto0 AND attributes.version > :after AND "
        "attributes.node = :node ORDER BY attributes.version, attributes.rank"
    ),
    "base/0": (
        "SELECT bases.partition, bases.branch, bases.version, bases.uuid, bases.clip, bases.frame, "
        "bases.directory FROM bases WHERE bases.node = :node AND bases.partition = :partition AND "
        "bases.branch = :branch AND bases.version <= :upto ORDER BY bases.version DESC LIMIT 1 OFFSET 0"
    ),
    "base standing/0": (
        "SELECT bases.uuid FROM bases WHERE bases.node = :node AND bases.partition = :partition AND "
        "bases.branch = :branch AND bases.version = :version"
    ),
    "base versions/1": (
        "SELECT bases.partition, max(bases.version) AS max_1 FROM bases WHERE bases.node = :node AND "
        "bases.branch = :branch0 AND bases.version <= :upto0 AND bases.version > :after GROUP BY "
        "bases.partition"
    ),
    "blobs/0": (
        "SELECT blobs.uuid, blobs.data FROM blobs WHERE blobs.uuid IN (__[POSTCOMPILE_uuids])"
    ),
    "branch/0": (
        "SELECT branches.id, branches.name, branches.parent, branches.fork, branches.created, "
        "branches.deleted FROM branches WHERE branches.id = :id"
    ),
    "child/1": (
        "SELECT node_versions.node, nodes.kind, node_versions.parent, node_versions.name, "
        "node_versions.metadata, nodes.partition, node_versions.version FROM node_versions JOIN nodes ON "
        "nodes.id = node_versions.node WHERE node_versions.branch = :branch0 AND node_versions.version <= "
        ":upto0 AND node_versions.version > :after AND node_versions.parent IS NOT NULL AND NOT (EXISTS "
        "(SELECT * FROM node_versions AS node_versions_1 WHERE node_versions_1.node = node_versions.node AND "
        "node_versions_1.version > node_versions.version AND node_versions_1.branch = :branch0 AND "
        "node_versions_1.version <= :upto0 AND node_versions_1.version > :after)) AND node_versions.parent = "
        ":parent AND node_versions.name = :name"
    ),
    "children/1": (
        "SELECT node_versions.node, nodes.kind, node_versions.parent, node_versions.name, "
        "node_versions.metadata, nodes.partition, node_versions.version FROM node_versions JOIN nodes ON "
        "nodes.id = node_versions.node WHERE node_versions.branch = :branch0 AND node_versions.version <= "
        ":upto0 AND node_versions.version > :after AND node_versions.parent IS NOT NULL AND NOT (EXISTS "
        "(SELECT * FROM node_versions AS node_versions_1 WHERE node_versions_1.node = node_versions.node AND "
        "node_versions_1.version > node_versions.version AND node_versions_1.branch = :branch0 AND "
        "node_versions_1.version <= :upto0 AND node_versions_1.version > :after)) AND node_versions.parent = "
        ":parent ORDER BY node_versions.name"
    ),
    "commit/0": (
        "SELECT commits.version, commits.branch, commits.committed_at, commits.txid, commits.parents, "
        "commits.author, commits.message, commits.properties, commits.touched, commits.bytes_written FROM "
        "commits WHERE commits.version = :version"
    ),
    "commits by version/0": (
        "SELECT commits.version, commits.branch, commits.committed_at, commits.txid, commits.parents, "
        "commits.author, commits.message, commits.properties, commits.touched, commits.bytes_written FROM "
        "commits WHERE commits.version IN (__[POSTCOMPILE_versions])"
    ),
    "count maintenance/0": (
        "UPDATE store SET maintenance=(store.maintenance + 1)"
    ),
    "format/0": (
        "SELECT store.format FROM store"
    ),
    "fragments/1": (
        "SELECT fragments.version, fragments.rank, fragments.kind, fragments.masked, fragments.clip, "
        "fragments.frame, fragments.directory, fragments.partition, fragments.branch FROM fragments WHERE "
        "fragments.node = :node AND fragments.partition = :partition AND fragments.branch = :branch0 AND "
        "fragments.version <= :upto0 AND fragments.version > :after ORDER BY fragments.version, "
        "fragments.rank"
    ),
    "fragments since/1": (
        "SELECT fragments.node, fragments.version, fragments.rank, fragments.kind, fragments.masked, "
        "fragments.clip, fragments.frame, CASE WHEN (fragments.masked = 1) THEN fragments.directory END AS "
        "directory, fragments.partition, fragments.branch FROM fragments WHERE fragments.node = :node AND "
        "fragments.branch = :branch0 AND fragments.version <= :upto0 AND fragments.version > :after ORDER BY "
        "fragments.version, fragments.rank"
    ),
    "head/0": (
        "SELECT store.uuid, store.format, store.epoch, store.head, store.head_at, store.next_node, "
        "store.next_branch, store.maintenance, store.horizon, store.conflict_horizon FROM store"
    ),
    "insert attributes/0": (
        'INSERT INTO attributes (node, "key", branch, version, rank, value) VALUES (:node, :key, :branch, '
        ":version, :rank, :value)"
    ),
    "insert bases/0": (
        "INSERT INTO bases (node, partition, branch, version, uuid, clip, frame, directory) VALUES (:node, "
        ":partition, :branch, :version, :uuid, :clip, :frame, :directory)"
    ),
    "insert blobs/0": (
        "INSERT INTO blobs (uuid, refs, data) VALUES (:uuid, :refs, :data)"
    ),
    "insert commits/0": (
        "INSERT INTO commits (version, branch, committed_at, txid, parents, author, message, properties, "
        "touched, bytes_written) VALUES (:version, :branch, :committed_at, :txid, :parents, :author, "
        ":message, :properties, :touched, :bytes_written)"
    ),
    "insert fragments/0": (
        "INSERT INTO fragments (node, partition, branch, version, rank, kind, masked, clip, frame, directory)"
        " VALUES (:node, :partition, :branch, :version, :rank, :kind, :masked, :clip, :frame, :directory)"
    ),
    "insert node versions/0": (
        "INSERT INTO node_versions (node, branch, version, parent, name, metadata) VALUES (:node, :branch, "
        ":version, :parent, :name, :metadata)"
    ),
    "insert nodes/0": (
        "INSERT INTO nodes (id, kind, partition, created) VALUES (:id, :kind, :partition, :created)"
    ),
    "insert shapes/0": (
        "INSERT INTO shapes (node, branch, version, rank, shape, cuts) VALUES (:node, :branch, :version, "
        ":rank, :shape, :cuts)"
    ),
    "insert txids/0": (
        "INSERT INTO txids (txid, version) VALUES (:txid, :version)"
    ),
    "loads/1": (
        "SELECT fragments.partition, fragments.version FROM fragments WHERE fragments.node = :node AND "
        "fragments.branch = :branch0 AND fragments.version <= :upto0 AND fragments.version > :after"
    ),
    "move head/0": (
        "UPDATE store SET head=:head, head_at=:head_at, next_node=:next_node, next_branch=:next_branch"
    ),
    "newest commit/0": (
        "SELECT commits.version FROM commits WHERE commits.branch = :branch AND commits.version <= :upto "
        "ORDER BY commits.version DESC LIMIT 1 OFFSET 0"
    ),
    "newest shape/1": (
        "SELECT shapes.shape FROM shapes WHERE shapes.branch = :branch0 AND shapes.version <= :upto0 AND "
        "shapes.version > :after AND shapes.node = :node ORDER BY shapes.version DESC, shapes.rank DESC LIMIT"
        " 1 OFFSET 0"
    ),
    "newest shapes/1": (
        "SELECT nodes.id, (SELECT shapes.shape FROM shapes WHERE shapes.branch = :branch0 AND shapes.version "
        "<= :upto0 AND shapes.version > :after AND shapes.node = nodes.id ORDER BY shapes.version DESC, "
        "shapes.rank DESC LIMIT 1 OFFSET 0) AS anon_1 FROM nodes WHERE nodes.kind = 'array'"
    ),
    "next commit/0": (
        "SELECT commits.version FROM commits WHERE commits.branch = :branch AND commits.version > :version "
        "ORDER BY commits.version LIMIT 1 OFFSET 0"
    ),
    "node/1": (
        "SELECT node_versions.node, nodes.kind, node_versions.parent, node_versions.name, "
        "node_versions.metadata, nodes.partition, node_versions.version FROM node_versions JOIN nodes ON "
        "nodes.id = node_versions.node WHERE node_versions.branch = :branch0 AND node_versions.version <= "
        ":upto0 AND node_versions.version > :after AND node_versions.parent IS NOT NULL AND NOT (EXISTS "
        "(SELECT * FROM node_versions AS node_versions_1 WHERE node_versions_1.node = node_versions.node AND "
        "node_versions_1.version > node_versions.version AND node_versions_1.branch = :branch0 AND "
        "node_versions_1.version <= :upto0 AND node_versions_1.version > :after)) AND node_versions.node = "
        ":node"
    ),
    "nodes changed/1": (
        "SELECT node_versions.node, node_versions.version, node_versions.parent FROM node_versions WHERE "
        "node_versions.branch = :branch0 AND node_versions.version <= :upto0 AND node_versions.version > "
        ":after ORDER BY node_versions.version"
    ),
    "partitions compacted/1": (
        "SELECT DISTINCT bases.partition FROM bases WHERE bases.node = :node AND bases.branch = :branch0 AND "
        "bases.version <= :upto0 AND bases.version > :after"
    ),
    "partitions written/1": (
        "SELECT DISTINCT fragments.partition FROM fragments WHERE fragments.node = :node AND fragments.branch"
        " = :branch0 AND fragments.version <= :upto0 AND fragments.version > :after"
    ),
    "point to segment/0": (
        "UPDATE segments SET refs=(segments.refs + :count) WHERE segments.uuid = :segment AND segments.state "
        "= 'live'"
    ),
    "publish segment/0": (
        "UPDATE segments SET state=:to, holder=NULL, size=:bytes, refs=:count WHERE segments.uuid = :segment "
        "AND segments.state = 'intent'"
    ),
    "reference/0": (
        "SELECT refs.target, refs.target_branch FROM refs WHERE refs.kind = :kind AND refs.name = :name AND "
        "refs.version <= :upto ORDER BY refs.version DESC LIMIT 1 OFFSET 0"
    ),
    "shapes/1": (
        "SELECT shapes.node, shapes.version, shapes.rank, shapes.shape FROM shapes WHERE shapes.branch = "
        ":branch0 AND shapes.version <= :upto0 AND shapes.version > :after AND shapes.node = :node ORDER BY "
        "shapes.node, shapes.version, shapes.rank"
    ),
    "shapes that cut/1": (
        "SELECT shapes.node, shapes.version, shapes.rank, shapes.shape FROM shapes WHERE shapes.branch = "
        ":branch0 AND shapes.version <= :upto0 AND shapes.version > :after AND shapes.cuts = 1 AND "
        "shapes.node = :node ORDER BY shapes.node, shapes.version, shapes.rank"
    ),
    "status of txid/0": (
        "SELECT txids.version FROM txids WHERE txids.txid = :txid"
    ),
    "touched since/1": (
        "SELECT commits.version, commits.touched, commits.committed_at FROM commits WHERE commits.branch = "
        ":branch0 AND commits.version <= :upto0 AND commits.version > :after ORDER BY commits.version"
    ),
    "version at/0": (
        "SELECT commits.version FROM commits WHERE commits.committed_at <= :time ORDER BY "
        "commits.committed_at DESC LIMIT 1 OFFSET 0"
    ),
    "withdraw segment/0": (
        "DELETE FROM segments WHERE segments.uuid = :segment AND segments.state = 'intent'"
    ),
}

__all__ = ["TEXTS"]
