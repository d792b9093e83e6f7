"""Structured logs: one JSON object a line, a fixed event name, ids bound once (docs/logs.md).

Prompts, completions, references and privileged context appear at DEBUG only: above it, what quotes
the texts of the group in hand is withheld.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from rlsd.errors import RlsdError
from rlsd.telemetry.withholding import Withholding

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName", "asctime"}
_OURS = ("rlsd", "services")
_QUOTING = (ValueError, LookupError)
"""Their messages show the value that was wrong: a decoder's input, a dictionary's key."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _InHand:
    """The group that a task works on. Shared by the tasks that this one starts."""

    ids: Mapping[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


_in_hand: ContextVar[_InHand | None] = ContextVar("rlsd_in_hand", default=None)
_trace_ids: Callable[[], Mapping[str, str]] = dict


def work_on(texts: Iterable[str] = (), **ids: str) -> None:
    """Bind ids, and texts that are withheld, to what this task logs from now to its end."""
    before = _in_hand.get() or _InHand()
    _in_hand.set(_InHand({**before.ids, **ids}, [*before.texts, *texts]))


def withhold(*texts: str) -> None:
    """Withhold further texts of the group in hand, in the task that it was bound in, too."""
    if (hand := _in_hand.get()) is not None:
        hand.texts.extend(texts)


def join_traces(ask: Callable[[], Mapping[str, str]]) -> None:
    """Have `ask` name the trace of each record: its fields stand in the line."""
    global _trace_ids
    _trace_ids = ask


class JsonLines(logging.Formatter):
    """A record as one JSON object; fields given by `extra` stand beside the event."""

    def __init__(self, **bound: str) -> None:
        super().__init__()
        self._bound = bound

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        hand = _in_hand.get() or _InHand()
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **self._bound,
            **hand.ids,
            **_trace_ids(),
        }
        fields |= {k: v for k, v in record.__dict__.items() if k not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if record.levelno > logging.DEBUG and hand.texts:
            fixed = {"time", "level", "logger", *self._bound, *hand.ids}
            if record.name.partition(".")[0] in _OURS:
                fixed.add("event")  # a constant; a prompt must not be able to hide it
            withhold_from = Withholding(hand.texts)
            fields = {
                k: v if k in fixed or isinstance(v, int | float | None) else withhold_from(str(v))
                for k, v in fields.items()
            }
        return json.dumps(fields, default=str, ensure_ascii=False)


def configure_logs(service: str, *, run_id: str = "", level: str = "INFO") -> None:
    """Send this process' records to standard error as JSON lines with `service` and `run_id`.

    `level` is that of our own records; those of libraries come from WARNING on. An exception that
    nothing catches is a record, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    bound = {"service": service} | ({"run_id": run_id} if run_id else {})
    handler.setFormatter(JsonLines(**bound))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, where: _crashed(service, kind, error, where)
    threading.excepthook = lambda args: log.critical(
        "thread crashed", extra={"traceback": crash_words(args.exc_value)}
    )


def adopt_libraries() -> None:
    """Have libraries that brought handlers of their own (vLLM, transformers) log as we do.

    Called once they are imported: they put their handlers up then. Nothing is done in a process
    whose logs are not ours to configure.
    """
    if not any(isinstance(h.formatter, JsonLines) for h in logging.root.handlers):
        return
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _OURS:
            continue
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        if logger.level < logging.WARNING:
            logger.setLevel(logging.NOTSET)


def _crashed(
    service: str, kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """What a process says that ends by a fault of ours: a record, then a line for people."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    words = crash_words(error)
    log.critical("process crashed", extra={"traceback": words})
    last = words.rpartition("\n")[2]
    sys.stderr.write(f"rlsd {service}: crashed: {last}\n")


def crash_words(error: BaseException | None) -> str:
    """A traceback whose messages quote no value: frames, types, and what cannot quote."""
    if error is None:
        return "no exception"
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    frames = "".join(traceback.format_tb(leaf.__traceback__))
    name = type(leaf).__name__
    is_plain = isinstance(leaf, RlsdError) or not isinstance(leaf, _QUOTING)
    says = str(leaf).strip().splitlines() if is_plain else ["its message may quote a value"]
    return f"{frames}{name}: {says[0]}" if says else f"{frames}{name}"
