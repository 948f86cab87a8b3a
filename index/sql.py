"""SQLAlchemy and the tables, loaded when a statement is first put together.

Opening a store, reading and committing need neither, for their statements are kept as text (see
:mod:`txstore.index.statement`): to import them takes longer than everything else that a small read does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

    from txstore.index import schema
else:
    from txstore.lazy import LazyModule

    sa = LazyModule("sqlalchemy")
    schema = LazyModule("txstore.index.schema")

__all__ = ["sa", "schema"]
