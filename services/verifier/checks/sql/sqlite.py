"""SQLite, by the library that apsw carries: a copy in memory for each query, which only reads.

Three things stand between a query and what it may not do: the authorizer (allow-lists of actions,
functions and tables, asked while a statement is prepared), `query_only`, and the child process.
The progress handler ends a long query; what runs inside one function is ended with the process.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import apsw
import apsw.ext

from services.verifier.checks.sql.engine import (
    Bounds,
    QueryFailed,
    Refused,
    Table,
    TooBig,
    TooLong,
    collect,
)
from services.verifier.checks.sql.query_text import QUERY_LIMIT

_HEAP_BYTES = 512 * 1024**2
_OPCODES_BETWEEN_LOOKS = 10_000

_LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: 10_000_000,
    apsw.SQLITE_LIMIT_SQL_LENGTH: QUERY_LIMIT,
    apsw.SQLITE_LIMIT_COLUMN: 200,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 200,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    apsw.SQLITE_LIMIT_VDBE_OP: 1_000_000,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_INNOCUOUS = 0x200000
"""The flag of a function without side effects."""
_SAFE_AS_WELL = {
    *("median", "percentile", "percentile_cont", "percentile_disc"),
    *("match", "bm25", "highlight", "snippet", "offsets", "matchinfo"),
}
_NOT_REPRODUCIBLE = {"random", "randomblob"}
_CLOCK = {
    *("date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"),
    *("current_date", "current_time", "current_timestamp"),
}
_TABLE_FUNCTIONS = {"json_each", "json_tree", "jsonb_each", "jsonb_tree"}
_CATALOGUE = {"sqlite_master", "sqlite_schema", "sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}
_SPECIAL = ("sqlite_", "pragma_")
_NOTHING = re.compile(r"(?>[\s;]|--[^\n]*|/\*(?s:.*?)(?:\*/|\Z))*+\Z")
_NAMES = {
    value: name.removeprefix("SQLITE_").replace("_", " ")
    for name, value in vars(apsw).items()
    if name in apsw.mapping_authorizer_function
}


@dataclass(frozen=True, slots=True)
class Image:
    """A database file, and the names of its tables and views in lower case."""

    content: bytes
    names: frozenset[str]


@dataclass(slots=True)
class _Gate:
    """The authorizer of one query: what it allows, and what it has seen."""

    functions: frozenset[str]
    modules: frozenset[str]
    names: frozenset[str]
    may_read_catalogue: bool
    reads_catalogue: bool = False
    reads_clock: bool = False
    refused: str = ""
    _plain: frozenset[int] = field(
        default=frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE}), init=False
    )

    def __call__(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in self._plain:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_READ and self._may_read((first or "").lower(), second):
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION and self._may_call((second or "").lower()):
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_PRAGMA and first == "data_version":
            return apsw.SQLITE_OK  # full-text search asks itself
        what = second if action == apsw.SQLITE_FUNCTION else first
        self.refused = self.refused or f"{_NAMES[action]} {what or ''}".strip().lower()
        return apsw.SQLITE_DENY

    def _may_read(self, table: str, column: str | None) -> bool:
        if table in _CATALOGUE:
            self.reads_catalogue = True
            return self.may_read_catalogue
        if table in self.names or table in _TABLE_FUNCTIONS:
            return True
        # Counting the rows of a common table expression asks for no column of its name.
        return not column and not (table in self.modules or table.startswith(_SPECIAL))

    def _may_call(self, function: str) -> bool:
        self.reads_clock = self.reads_clock or function in _CLOCK
        return function in self.functions


class Sqlite:
    """The engine; one per process, as the limit of its heap is the process's."""

    def __init__(self) -> None:
        connection = apsw.Connection(":memory:")
        connection.execute(f"PRAGMA hard_heap_limit={_HEAP_BYTES}")
        innocuous = connection.execute(
            "SELECT lower(name) FROM pragma_function_list WHERE flags & ?", (_INNOCUOUS,)
        )
        found = {name for (name,) in innocuous} | _SAFE_AS_WELL
        self._functions = frozenset(found - _NOT_REPRODUCIBLE)
        modules = connection.execute("SELECT lower(name) FROM pragma_module_list")
        self._modules = frozenset(name for (name,) in modules)
        connection.close()

    def build(self, schema_sql: str, *, cpu_s: float) -> Image:
        """The database that a script makes; raises QueryFailed."""
        connection = _connect()
        try:
            connection.authorizer = _builder
            connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
            _stop_after(connection, cpu_s)
            with _failures():
                connection.execute(schema_sql)
                if connection.in_transaction:
                    connection.execute("COMMIT")
                names = connection.execute("SELECT lower(name) FROM sqlite_schema").fetchall()
                content = connection.serialize("main")
            return Image(content or b"", frozenset(str(name) for (name,) in names))
        finally:
            connection.close()

    def run(self, image: Image, query: str, bounds: Bounds) -> Table:
        """The rows of one query on a copy of the database; raises QueryFailed."""
        connection = _connect()
        try:
            if image.content:
                connection.deserialize("main", image.content)
            for limit, value in _LIMITS.items():
                connection.limit(limit, value)
            connection.execute("PRAGMA query_only=1")
            gate = _Gate(self._functions, self._modules, image.names, bounds.may_read_catalogue)
            connection.authorizer = gate
            _stop_after(connection, bounds.cpu_s)
            with _failures(gate):
                width = _width_of(connection, query)
                rows, num_bytes = collect(connection.execute(query), bounds)
            return Table(
                width=width,
                rows=rows,
                num_bytes=num_bytes,
                reads_catalogue=gate.reads_catalogue,
                reads_clock=gate.reads_clock,
            )
        finally:
            connection.close(True)


def _connect() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    # "text" in double quotes is text where no column has that name: most data sets rely on it.
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 1)
    connection.execute("PRAGMA temp_store=memory")
    return connection


def _builder(action: int, first: str | None, *_: str | None) -> int:
    """What a task's own script may do: anything but leave the database."""
    is_refused = action in {apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH} or first == "load_extension"
    return apsw.SQLITE_DENY if is_refused else apsw.SQLITE_OK


def _stop_after(connection: apsw.Connection, cpu_s: float) -> None:
    end = time.process_time() + cpu_s

    def is_over() -> bool:
        return time.process_time() > end

    connection.set_progress_handler(is_over, _OPCODES_BETWEEN_LOOKS)


def _width_of(connection: apsw.Connection, query: str) -> int:
    """Columns of the one query in the text; prepared, not run."""
    info = apsw.ext.query_info(connection, query)
    if info.query_remaining and not _NOTHING.match(info.query_remaining):
        raise Refused("several statements")
    if info.is_explain:
        raise Refused("explain")
    if not info.is_readonly:
        raise Refused("it writes")
    if not info.description:
        raise Refused("not a query")
    return len(info.description)


@contextlib.contextmanager
def _failures(gate: _Gate | None = None) -> Iterator[None]:
    """Turns what apsw raises into what this kind raises."""
    try:
        yield
    except apsw.InterruptError as error:
        raise TooLong("time limit") from error
    except (apsw.NoMemError, apsw.TooBigError, MemoryError) as error:
        raise TooBig("memory limit") from error
    except (apsw.Error, ValueError, OverflowError) as error:
        if gate and gate.refused:
            raise Refused(gate.refused) from error
        raise QueryFailed(str(error)) from error
