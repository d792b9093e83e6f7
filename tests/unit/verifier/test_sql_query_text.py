import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.checks.sql.query_text import query_of


@pytest.mark.parametrize(
    ("completion", "query"),
    [
        ("```sql\nSELECT 1;\n```", "SELECT 1;"),
        ("```SQL\nSELECT 1\n```", "SELECT 1"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("so ```sql SELECT 1``` it is", "SELECT 1"),
        ("```SELECT\n1```", "SELECT\n1"),
        ("```sql\nSELECT 1\n```\n```sql\nSELECT 2\n```", "SELECT 2"),
        ("```sql\nSELECT 1\n```\nresult\n```\n7\n```", "SELECT 1"),
        ("```python\nx\n```\n```\nSELECT 3\n```", "SELECT 3"),
        ("```sql\nSELECT 1", "SELECT 1"),
        ("SELECT 1", "SELECT 1"),
        ("  select a\n\nfrom t;  ", "select a\n\nfrom t"),
        ("SELECT 1; That is one.", "SELECT 1"),
        ("SELECT 1\n\nThat is one.", "SELECT 1"),
        ("SELECT ';' ; fine", "SELECT ';'"),
        ("SELECT '\n\nThat' FROM t", "SELECT '\n\nThat' FROM t"),
        ("WITH a AS (SELECT 1)\n\nSELECT * FROM a", "WITH a AS (SELECT 1)\n\nSELECT * FROM a"),
        ("The answer:\nSELECT a\nFROM t", "SELECT a\nFROM t"),
        ("Answer: SELECT a FROM t", "SELECT a FROM t"),
        ("Use `SELECT a FROM t` here.", "SELECT a FROM t"),
        ("With this:\n\nSELECT a FROM t;\n\nGood.", "SELECT a FROM t"),
        ("<think>SELECT 1</think>SELECT 2", "SELECT 2"),
    ],
)
def test_the_query_is_found(completion, query):
    assert query_of(completion) == query


@pytest.mark.parametrize(
    "completion",
    ["", "  ", "I do not know.", "```sql\n```", "7", "<think>```sql\nSELECT 1\n```"],
)
def test_no_query_is_made_up(completion):
    assert query_of(completion) is None


@pytest.mark.parametrize(
    "completion",
    [
        "SELECT 1; DROP TABLE t",
        "SELECT 1;\n\nDELETE FROM t",
        "DELETE FROM t;\nSELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1 /* ; */; PRAGMA x",
    ],
)
def test_a_second_statement_is_not_cut_away(completion):
    assert query_of(completion) == completion


@given(st.text(alphabet="SELECT `;\n'\"-/*()WITHaq:<>", max_size=80))
def test_any_text_is_read(completion):
    query_of(completion)


@pytest.mark.parametrize(
    "piece", ["\n\n", "`", "` ", "';", "/*", "--", ";\n", "```\n", ": ", "(", "<think>", "\n ,\n"]
)
def test_extraction_is_linear(piece):
    started = time.process_time()
    query_of("SELECT" + piece * 50_000 + "7")
    query_of(piece * 200_000 + "7")
    assert time.process_time() - started < 2
