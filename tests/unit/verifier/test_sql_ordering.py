import pytest

from services.verifier.checks.sql.engine import QueryFailed
from services.verifier.checks.sql.ordering import Ordering, free_runs, outermost_order


@pytest.mark.parametrize(
    ("query", "is_ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t order\n by 1 LIMIT 3", True),
        ("SELECT a FROM t UNION SELECT b FROM t ORDER BY 1", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x ORDER BY 1", True),
        ("SELECT a FROM t", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT a FROM x", False),
        ("SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t", False),
        ("SELECT ' ORDER BY a' FROM t -- ORDER BY a", False),
        ("SELECT group_concat(a ORDER BY a) FROM t", False),
        ("SELECT a FROM t WHERE a IN (SELECT a FROM t ORDER BY a LIMIT 1)", False),
    ],
)
def test_only_the_outermost_query_orders(query, is_ordered):
    assert outermost_order(query, "sqlite").is_ordered is is_ordered


def test_a_query_in_brackets_is_the_outermost_one():
    assert outermost_order("(SELECT a FROM t ORDER BY a)", "duckdb").is_ordered


@pytest.mark.parametrize(
    ("tail", "is_ordered"), [("ORDER BY 1", True), ("WHERE x IN (SELECT 1 ORDER BY 1)", False)]
)
def test_a_query_that_the_parser_does_not_know_is_searched_by_tokens(tail, is_ordered):
    query = f"SELECT a FROM t NOT KNOWN {tail}"
    assert outermost_order(query, "sqlite") == Ordering(is_ordered=is_ordered)


def test_rows_tie_by_keys_that_are_not_shown():
    rows = [("a",), ("b",), ("c",)]
    ordering = outermost_order("SELECT name FROM t ORDER BY pay", "sqlite")
    keyed = [("a", 1), ("b", 1), ("c", 2)]
    assert free_runs(rows, ordering, width=1, run=lambda _: keyed) == [2, 1]


def test_keys_of_other_rows_give_no_ties():
    rows = [("a",), ("b",)]
    ordering = Ordering(is_ordered=True, query_with_keys="x")
    assert free_runs(rows, ordering, width=1, run=lambda _: [("b", 1), ("a", 1)]) == [1, 1]


def test_keys_that_cannot_be_had_give_no_ties():
    def run(_):
        raise QueryFailed("no such column")

    ordering = Ordering(is_ordered=True, query_with_keys="x")
    assert free_runs([("a",), ("b",)], ordering, width=1, run=run) == [1, 1]
