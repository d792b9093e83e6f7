"""What the reference's outermost ORDER BY says: whether rows have an order, and where they tie.

By its syntax tree: an ORDER BY in a subquery, a window or a string orders nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.verifier.checks.sql.compare import Rows, identity, tie_groups
from services.verifier.checks.sql.engine import QueryFailed

_KEY = "rlsd_key_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How the reference orders its rows."""

    is_ordered: bool
    query_with_keys: str | None = None
    """The query with each sort key as a further column; None where that cannot be written."""


def outermost_order(query: str, dialect: str) -> Ordering:
    """The ordering of a query; one that sqlglot cannot read is searched token by token."""
    import sqlglot
    from sqlglot import exp

    try:
        root: Any = sqlglot.parse_one(query, dialect=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return Ordering(is_ordered=_has_order_outside_brackets(query, dialect))
    while isinstance(root, exp.Subquery | exp.Paren) and not root.args.get("order"):
        root = root.this
    order = root.args.get("order")
    if order is None:
        return Ordering(is_ordered=False)
    if not isinstance(root, exp.Select) or root.args.get("distinct") or root.args.get("kind"):
        return Ordering(is_ordered=True)
    return Ordering(is_ordered=True, query_with_keys=_with_keys(root, dialect))


def free_runs(
    rows: Rows, ordering: Ordering, *, width: int, run: Callable[[str], Rows]
) -> list[int]:
    """Lengths of the runs of rows within which their order is free.

    Args:
        run: the rows of a further query on the same database; raises QueryFailed.
    """
    if not ordering.is_ordered:
        return [len(rows)]
    strict = [1] * len(rows)
    if ordering.query_with_keys is None:
        return strict
    try:
        keyed = run(ordering.query_with_keys)
    except QueryFailed:
        return strict
    has_same_rows = len(keyed) == len(rows) and all(
        identity(a[:width]) == identity(b) for a, b in zip(keyed, rows, strict=True)
    )
    return tie_groups([row[width:] for row in keyed]) if has_same_rows else strict


def _with_keys(root: Any, dialect: str) -> str | None:
    from sqlglot import exp

    outputs = {column.alias_or_name.lower(): column for column in root.expressions}
    keyed = root.copy()
    for number, ordered in enumerate(root.args["order"].expressions):
        key = ordered.this
        if isinstance(key, exp.Literal) and key.is_int:
            index = int(key.this) - 1
            if not 0 <= index < len(root.expressions) or root.is_star:
                return None
            key = root.expressions[index].unalias()
        elif isinstance(key, exp.Column) and not key.table and key.name.lower() in outputs:
            key = outputs[key.name.lower()].unalias()
        keyed.append("expressions", exp.alias_(key.copy(), f"{_KEY}{number}"))
    return str(keyed.sql(dialect=dialect))


def _has_order_outside_brackets(query: str, dialect: str) -> bool:
    import sqlglot

    depth = 0
    try:
        for token in sqlglot.tokenize(query, dialect=dialect):
            name = token.token_type.name
            depth += (name == "L_PAREN") - (name == "R_PAREN")
            if depth == 0 and name == "ORDER_BY":
                return True
    except sqlglot.errors.SqlglotError:
        pass
    return False
