"""Which engine runs a dialect, and in what words."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from services.verifier.checks.sql.engine import QueryFailed, Refused


class EngineName(StrEnum):
    """The engines that run inside a child."""

    SQLITE = "sqlite"
    DUCKDB = "duckdb"


def engine_of(dialect: str) -> EngineName:
    """DuckDB for its own and PostgreSQL's dialect, which it is nearest to; SQLite for the rest."""
    if dialect in {EngineName.DUCKDB, "postgres"}:
        return EngineName.DUCKDB
    return EngineName.SQLITE


def is_known(dialect: str) -> bool:
    """Whether sqlglot reads it."""
    from sqlglot.dialects.dialect import Dialect

    return bool(dialect) and Dialect.get(dialect) is not None


def translated_query(query: str, dialect: str) -> str:
    """The query in the words of its engine.

    Raises:
        QueryFailed: it cannot be read.
        Refused: it is not one query.
    """
    from sqlglot import exp

    statements = _parsed(query, dialect)
    if len(statements) != 1:
        raise Refused(f"{len(statements)} statements")
    if not isinstance(statements[0], exp.Query):
        raise Refused("not a query")
    return _written(statements, engine_of(dialect))[0]


def translated_script(script: str, dialect: str) -> str:
    """A script of several statements in the words of its engine; raises QueryFailed."""
    engine = engine_of(dialect)
    statements = _parsed(script, dialect)
    sequences = _number_serials(statements) if engine is EngineName.DUCKDB else []
    return ";\n".join([*sequences, *_written(statements, engine)])


def _number_serials(statements: list[Any]) -> list[str]:
    """Give SERIAL columns, which DuckDB lacks, a sequence; returns what creates these."""
    from sqlglot import exp

    sizes = {
        exp.DataType.Type.SMALLSERIAL: "SMALLINT",
        exp.DataType.Type.SERIAL: "INT",
        exp.DataType.Type.BIGSERIAL: "BIGINT",
    }
    created: list[str] = []
    for statement in statements:
        for column in statement.find_all(exp.ColumnDef):
            size = sizes.get(column.kind.this) if column.kind else None
            if size is None:
                continue
            name = f"rlsd_serial_{len(created)}"
            created.append(f"CREATE SEQUENCE {name}")
            column.set("kind", exp.DataType.build(size))
            default = exp.DefaultColumnConstraint(
                this=exp.func("nextval", exp.Literal.string(name))
            )
            column.append("constraints", exp.ColumnConstraint(kind=default))
    return created


def _parsed(text: str, dialect: str) -> list[Any]:
    import sqlglot

    try:
        found = sqlglot.parse(text, dialect=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        words = str(error) or type(error).__name__
        raise QueryFailed(f"cannot be read as {dialect}: {words}") from error
    return [statement for statement in found if statement is not None]


def _written(statements: list[Any], engine: EngineName) -> list[str]:
    import sqlglot

    try:
        return [str(statement.sql(dialect=engine)) for statement in statements]
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError) as error:
        raise QueryFailed(f"cannot be written for {engine}: {error}") from error
