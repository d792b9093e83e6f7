"""Which query a completion states: the last fence, or a bare statement. Pure and linear."""

from __future__ import annotations

import re

QUERY_LIMIT = 100_000
"""Characters of a query; what SQLite is told as well."""

_THOUGHT_START, _THOUGHT_END = "<think>", "</think>"
_LABELS = {"sql", "sqlite", "sqlite3", "duckdb", "postgres", "postgresql", "mysql", "tsql"}
_WORDS = {"SELECT", "WITH", "FROM", "VALUES"}
_FENCE = re.compile(r"`{3,}")
_LABEL = re.compile(r"[ \t]*([\w+.-]+)[ \t]*(?:\n|\r|$)")
_LABEL_IN_LINE = re.compile(r"[ \t]*([\w+.-]+)[ \t]")
_INLINE = re.compile(r"`([^`\n]+)`")
_QUERY_START = re.compile(
    r"""\s*(?:--|/\*|\(\s*(?:SELECT|WITH|VALUES)\b|SELECT\b|VALUES\s*\(
    |WITH\s+(?:RECURSIVE\s+)?["\w]+\s*(?:\(|AS\b)
    |FROM\s+["\w.]+\s*(?:;|\Z|(?:SELECT|WHERE|JOIN|GROUP|ORDER|LIMIT)\b))""",
    re.IGNORECASE | re.VERBOSE,
)
_STATED = re.compile(r"(?:^|[:\n])[ \t]*((?:SELECT|WITH|VALUES)\b)", re.IGNORECASE)
_STATEMENT_START = re.compile(  # as far as the first words of English sentences differ from it
    r"""\s*+(?:--|/\*|\(\s*SELECT\b|(?:SELECT|VALUES|EXPLAIN|PRAGMA|ATTACH|DETACH|VACUUM|REINDEX
    |ANALYZE|COMMIT|ROLLBACK|SAVEPOINT|TRUNCATE|GRANT|REVOKE|SUMMARIZE|CHECKPOINT)\b
    |(?:INSERT|REPLACE|MERGE)\s+(?:INTO|OR)\b|DELETE\s+FROM\b|UPDATE\s+\S+\s+SET\b
    |(?:CREATE|DROP|ALTER)\s+(?:OR\s+REPLACE\s+)?(?:TEMP|TABLE|VIEW|INDEX|TRIGGER|UNIQUE|VIRTUAL
    |SCHEMA|DATABASE|SEQUENCE|FUNCTION|MACRO|TYPE|ROLE|USER)|WITH\s+(?:RECURSIVE\s+)?["\w]+\s*(?:\(|AS\b)
    |COPY\s+\S+\s+(?:FROM|TO)\b|EXPORT\s+DATABASE|IMPORT\s+DATABASE|SET\s+\S+\s*(?:=|TO\b)|DO\s+\$
    |(?:BEGIN|END|USE|INSTALL|LOAD|CALL|EXECUTE|RESET)\b[^\n;.]*(?:;|\Z))""",
    re.IGNORECASE | re.VERBOSE,
)
_CONTINUES = re.compile(
    r"\s*+(?:[(),;]|--|/\*|(?:SELECT|FROM|WHERE|GROUP|ORDER|HAVING|LIMIT|OFFSET|UNION|EXCEPT"
    r"|INTERSECT|(?:LEFT|RIGHT|FULL|INNER|OUTER|CROSS|NATURAL)?\s*(?:OUTER\s+)?JOIN|ON|AND|OR"
    r"|WINDOW|WHEN|ELSE|END|THEN|CASE|AS|QUALIFY|VALUES|WITH)\b)",
    re.IGNORECASE,
)
_PIECE = re.compile(
    r"""'(?:[^']|'')*+(?:'|\Z)|"(?:[^"]|"")*+(?:"|\Z)|`[^`]*(?:`|\Z)|--[^\n]*|/\*.*?(?:\*/|\Z)"""
    r"""|;|\n[ \t\r]*+\n\s*+""",
    re.DOTALL,
)


def query_of(completion: str) -> str | None:
    """The query, with whatever a fence holds beside it; None when nothing looks like one."""
    text = completion.rpartition(_THOUGHT_END)[2].partition(_THOUGHT_START)[0]
    fenced = _last_fence(text)
    if fenced is not None:
        return fenced.strip() or None
    if _QUERY_START.match(text):
        return _without_prose(text) or None
    for span in reversed(_INLINE.findall(text)):
        if _QUERY_START.match(span):
            return str(span).strip()
    if _STATEMENT_START.match(text):
        return text.strip()  # something else comes first: that is not a query
    starts = [match.start(1) for match in _STATED.finditer(text)]
    return _without_prose(text[starts[-1] :]) if starts else None


def _last_fence(text: str) -> str | None:
    """The content of the last fence marked as SQL, else of the last one; it may lack its end."""
    fences = [_labelled(content) for content in _FENCE.split(text)[1::2]]
    marked = [content for label, content in fences if label in _LABELS]
    if marked:
        return marked[-1]
    return fences[-1][1] if fences else None


def _labelled(content: str) -> tuple[str, str]:
    """The label of a fence ("" without one) and what it holds."""
    found = _LABEL.match(content)
    if found and found[1].upper() not in _WORDS:
        return found[1].lower(), content[found.end() :]
    found = _LABEL_IN_LINE.match(content)
    if found and found[1].lower() in _LABELS:
        return found[1].lower(), content[found.end() :]
    return "", content


def _without_prose(text: str) -> str:
    """A bare statement less the words after it; another statement after it stays, to be refused."""
    text = text[: 2 * QUERY_LIMIT].strip()
    for piece in _PIECE.finditer(text):
        if piece[0] == ";":
            is_end = not _STATEMENT_START.match(text, piece.end())
        else:
            is_end = piece[0].startswith("\n") and not _goes_on(text, piece)
        if is_end:
            return text[: piece.start()].rstrip()
    return text


def _goes_on(text: str, blank: re.Match[str]) -> bool:
    """Whether the query, or another statement, goes on after a blank line."""
    before = text[max(0, blank.start() - 1) : blank.start()]
    return (
        before in {",", "(", "=", "+", "-", "*", "/", "|"}
        or _CONTINUES.match(text, blank.end()) is not None
        or _STATEMENT_START.match(text, blank.end()) is not None
    )
