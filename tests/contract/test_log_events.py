"""Every event that can be logged stands in docs/logs.md, with its level, service and fields."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path("docs/logs.md")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
WORDS = {
    "address",
    "call",
    "child",
    "deliveries",
    "drain_s",
    "group_id",
    "held_out_accuracy",
    "lacks",
    "lasted_s",
    "mismatch",
    "num_groups",
    "path",
    "port",
    "reason",
    "remedy",
    "replicas",
    "stage",
    "status",
    "step",
    "summary",
    "tools",
    "traceback",
    "trajectory_id",
    "verifier",
    "version",
}
"""One word for each idea."""


def calls():
    """Every call of a logger: where, level, event and fields."""
    for room in ("rlsd", "services"):
        for path in sorted(Path(room).rglob("*.py")):
            if "guest" in path.parts:  # inside a sandbox; it has no logger
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=level)) if (
                        name in ("log", "logger", "logging") and level in LEVELS
                    ):
                        yield path, node, level


def fields_of(call):
    """The keys of `extra`; None when they cannot be read off the source."""
    extra = next((k.value for k in call.keywords if k.arg == "extra"), ast.Dict(keys=[], values=[]))
    if not isinstance(extra, ast.Dict):
        return None
    keys = [k.value if isinstance(k, ast.Constant) else None for k in extra.keys]
    return None if None in keys else keys


def service_of(path):
    """Which service logs it; a room of the library is named as it is."""
    return path.parts[1] if path.parts[0] == "services" else ".".join(path.parts[:2])


def in_code():
    rows = {}
    for path, call, level in calls():
        shown = {"exception": "error"}.get(level, level)
        fields = fields_of(call) + (["traceback"] if level == "exception" else [])
        row = rows.setdefault((call.args[0].value, shown), (set(), set()))
        row[0].add(service_of(path))
        row[1].update(fields)
    return {(*key, *map(frozenset, row)) for key, row in rows.items()}


def on_page():
    found = set()
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            event, level, services, fields = [c.strip() for c in line.split("|")[1:5]]
            names = [frozenset(re.findall(r"`([^`]+)`", cell)) for cell in (services, fields)]
            found.add((event.strip("`"), level, *names))
    return found


@pytest.mark.parametrize(("path", "call", "level"), list(calls()))
def test_an_event_is_a_constant_and_its_values_are_fields(path, call, level):
    where = f"{path}:{call.lineno}"
    [event] = call.args
    assert isinstance(event, ast.Constant), f"{where}: the event is put together"
    assert "%" not in event.value, where
    assert len(event.value) <= 48, f"{where}: an event is a name, its story stands in docs/logs.md"
    fields = fields_of(call)
    assert fields is not None, f"{where}: write the fields out as extra={{…}}"
    assert set(fields) <= WORDS, f"{where}: {set(fields) - WORDS}"
    assert {k.arg for k in call.keywords} <= {"extra"}, where


def test_the_page_has_every_event_and_no_other():
    assert on_page() == in_code()


def test_every_logger_is_called_log():
    odd = [
        str(path)
        for room in ("rlsd", "services")
        for path in Path(room).rglob("*.py")
        if re.search(r"(?<!\blog )= logging\.getLogger\(__name__\)", path.read_text())
    ]
    assert odd == []
