"""What every service process does first: threads, logs, traces, its end with its parent."""

from __future__ import annotations

import ctypes
import os
import signal

from rlsd.telemetry.logs import configure_logs, join_traces
from rlsd.telemetry.tracing import exemplar, start_tracing

_PR_SET_PDEATHSIG = 1


def prepare_process(service: str, *, run_id: str = "", threads: int = 1) -> None:
    """Set up logs, traces and the compute-thread limit; must run before torch is imported.

    With `RLSD_DIE_WITH_PARENT` set (local mode does), the process ends when its parent does, so a
    killed `rlsd run` leaves nothing behind.

    Raises:
        ConfigError: spans are to go where none can be sent.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if os.getpid() == 1:  # the kernel drops a signal that the first process has no handler for
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    configure_logs(service, run_id=run_id, level=os.environ.get("RLSD_LOG_LEVEL", "INFO"))
    if os.environ.get("RANK", "0") == "0":  # the other ranks of a learner make no spans
        start_tracing(f"rlsd-{service}", run_id=run_id)
        join_traces(lambda: exemplar() or {})
    if os.environ.get("RLSD_DIE_WITH_PARENT"):
        end_with_parent(signal.SIGTERM)


def end_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this signal when the thread that started this process ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
