"""SQL checks per second: `python benchmarks/verifier_sql.py` prints one JSON object.

Ours is `Verifier.check`, from the completion to the verdict, with two children on small SQLite
tables. `same_tasks` has eight completions for each task, as a run has; `new_tasks` never sees a
task twice, so each check builds a database and runs a reference as well; `duckdb` has the same
tasks on DuckDB. The floor is apsw alone: the same queries on one open database, without a copy,
a limit, a child process or a comparison. Rounds alternate, so that what else the machine does
falls on all alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import apsw

from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import Verifier, open_verifier

_REPEATS = 5
_ROUND_S = 1.0
_CONCURRENCY = 8
_WORKERS = 2
_ROWS = 60

QUERIES = (
    ("SELECT name FROM customer ORDER BY name", "SELECT name FROM customer ORDER BY name"),
    (
        "SELECT c.city, SUM(o.total) FROM customer c JOIN orders o ON o.customer = c.id"
        " GROUP BY c.city",
        "SELECT city, SUM(total) FROM orders JOIN customer ON customer.id = customer GROUP BY 1",
    ),
    (
        "SELECT name FROM customer WHERE id NOT IN (SELECT customer FROM orders)",
        "SELECT c.name FROM customer c LEFT JOIN orders o ON o.customer = c.id WHERE o.id IS NULL",
    ),
    (
        "WITH best AS (SELECT customer, MAX(total) AS top FROM orders GROUP BY customer)"
        " SELECT name, top FROM best JOIN customer ON id = customer ORDER BY top DESC",
        "SELECT name, MAX(total) FROM orders o JOIN customer c ON c.id = o.customer"
        " GROUP BY name ORDER BY 2 DESC",
    ),
    ("SELECT COUNT(*) FROM orders WHERE total > 50", "SELECT COUNT(*) FROM orders"),
    ("SELECT AVG(total) FROM orders", "SELECT SUM(total) / COUNT(total) FROM orders"),
    ("SELECT DISTINCT city FROM customer", "SELECT city FROM customer"),
    ("SELECT id FROM orders WHERE total < 20", "SELEC id FROM orders"),
)


@dataclass(slots=True)
class Round:
    """What one round measured."""

    rate: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


def schema_sql(number: int = 0) -> str:
    """Two tables of 60 rows; `number` makes another database of it."""
    customers = ", ".join(f"({n}, 'name {n}', 'city {(n + number) % 7}')" for n in range(_ROWS))
    orders = ", ".join(f"({n}, {n * 7 % 40}, {n * 13 % 97 + 0.5})" for n in range(_ROWS))
    return (
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT);"
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, total DOUBLE);"
        f"INSERT INTO customer VALUES {customers}; INSERT INTO orders VALUES {orders};"
        f"CREATE TABLE task (number INTEGER); INSERT INTO task VALUES ({number});"
    )


def _same_tasks(dialect: str) -> Iterator[tuple[VerifierSpec, str, str]]:
    params = {"schema_sql": schema_sql(), "dialect": dialect}
    spec = VerifierSpec(kind="sql", params=params)
    while True:
        for reference, query in QUERIES:
            yield spec, f"```sql\n{query}\n```", reference


def _new_tasks(start: int) -> Iterator[tuple[VerifierSpec, str, str]]:
    number = start
    while True:
        for reference, query in QUERIES:
            number += 1
            spec = VerifierSpec(kind="sql", params={"schema_sql": schema_sql(number)})
            yield spec, f"```sql\n{query}\n```", reference


async def _ours(verifier: Verifier, cases: Iterator[tuple[VerifierSpec, str, str]]) -> Round:
    found = Round()
    end = time.perf_counter() + _ROUND_S

    async def asking() -> None:
        while time.perf_counter() < end:
            spec, completion, reference = next(cases)
            started = time.perf_counter()
            verdict = await verifier.check(spec, completion, reference)
            assert verdict.is_scored, verdict
            found.latencies_s.append(time.perf_counter() - started)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONCURRENCY):
            tasks.create_task(asking())
    found.rate = len(found.latencies_s) / (time.perf_counter() - started)
    return found


def _floor(connection: apsw.Connection) -> Round:
    done = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _ROUND_S:
        for _, query in QUERIES[:-1]:
            connection.execute(query).fetchall()
        done += len(QUERIES) - 1
    return Round(rate=done / elapsed)


async def _measure(verifier: Verifier) -> dict[str, list[Round]]:
    connection = apsw.Connection(":memory:")
    connection.execute(schema_sql())
    rounds: dict[str, list[Round]] = {}
    for number in range(_REPEATS + 1):
        measured = {
            "same_tasks": await _ours(verifier, _same_tasks("sqlite")),
            "new_tasks": await _ours(verifier, _new_tasks(number * 1_000_000)),
            "duckdb": await _ours(verifier, _same_tasks("duckdb")),
            "floor_apsw": _floor(connection),
        }
        if number:  # the first round warms up
            for name, found in measured.items():
                rounds.setdefault(name, []).append(found)
    return rounds


def _figures(rounds: list[Round]) -> dict[str, float]:
    rates = [found.rate for found in rounds]
    figures: dict[str, float] = {
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
    }
    if latencies := [latency for found in rounds for latency in found.latencies_s]:
        figures["p95_ms"] = round(1000 * statistics.quantiles(latencies, n=20)[-1], 2)
    return figures


async def main() -> None:
    """Measure and print."""
    section = VerifierSection(kinds=("sql",), workers=_WORKERS)
    async with open_verifier(section) as verifier:
        rounds = await _measure(verifier)
    report = {
        "unit": "checks/s",
        "rows_per_table": _ROWS,
        "children": _WORKERS,
        "concurrency": _CONCURRENCY,
        "repeats": _REPEATS,
        "checks": {name: _figures(found) for name, found in rounds.items()},
        "sqlite": apsw.sqlite_lib_version(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    asyncio.run(main())
