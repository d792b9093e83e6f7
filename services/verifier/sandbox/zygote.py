"""`python -m services.verifier.sandbox.zygote TIER FD COMPONENT JOB…`: a warm process that forks.

It is started by exec, has one thread, no secret in its environment and no task in its memory: what
a run is about stays in files that only the run opens. Orders come as JSON on a socket, each with
the descriptors of its run; how a run ended goes back as JSON. See `client.py` for the other end.

In tier 1 it is process 1 of its own namespaces, so nothing that it started outlives it. In tier 2
a run is one process that can start no other. In tier 3 it holds an instance of `COMPONENT`, which
is empty elsewhere.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any

from services.verifier.sandbox.box import Box
from services.verifier.sandbox.boxes import open_box
from services.verifier.sandbox.confine import Limits
from services.verifier.sandbox.held import LOOK_EVERY_S, held_bytes
from services.verifier.sandbox.kernel import Namespace, die_with_parent, enter_namespace, unshare
from services.verifier.sandbox.memory import join
from services.verifier.sandbox.namespaces import enter_namespaces
from services.verifier.sandbox.starved import main_thread_waited_s, waited_s
from services.verifier.sandbox.tier import Tier

ORDER_BYTES = 4096
MAX_DESCRIPTORS = 8
PAYLOAD = 3
"""Descriptor of what the run is about; those of the job's own follow."""
SETUP_FAILED = 99
_CONTROL = 10
_STACK_BYTES = 256 * 1024**2
_THREAD_STACK_BYTES = 16 * 1024**2
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""The same for all: the order of a set must not decide a verdict."""
_LONGEST_STRETCH = 3.0
"""A run that had to wait for a processor gets that time back, up to so many times its limit."""


_KEPT: list[Any] = []
"""Modules of ours: they work on, but what runs in the sandbox cannot import them."""


@dataclass(slots=True)
class Run:
    """One forked process."""

    id: int
    pid: int
    pidfd: int
    started: float
    limit_s: float
    deadline: float
    is_confined: mmap.mmap
    is_alone: bool
    """Whether it is one process: then its wait for a processor is known to the end."""
    is_timed_out: bool = False
    most_bytes: int = 0
    """Of all its processes together; 0 when something else bounds them."""
    is_out_of_memory: bool = False


def main() -> None:
    """Serve orders until the socket closes."""
    tier, descriptor = Tier(sys.argv[1]), int(sys.argv[2])
    component, *modules = sys.argv[3:]
    if os.environ.get("PYTHONHASHSEED") != "0":
        _restart_clean(descriptor)
    die_with_parent(signal.SIGKILL)
    os.dup2(descriptor, _CONTROL)
    os.closerange(3, _CONTROL)
    os.closerange(_CONTROL + 1, 4096)
    box = open_box(tier, component, modules)
    _forget_the_machine()
    if tier is Tier.T1:
        enter_namespaces()
    threading.stack_size(_THREAD_STACK_BYTES)
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=_CONTROL)
    Zygote(control, box, is_private=tier is Tier.T1).serve()


def _restart_clean(descriptor: int) -> None:
    """Execute itself with nothing in the environment, and with a stack for deep recursion."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
    os.set_inheritable(descriptor, True)
    environment = dict(_ENVIRONMENT)
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _forget_the_machine() -> None:
    """From now on imports find the standard library and installed packages alone."""
    os.environ.pop("PYTHONPATH", None)
    sys.path[:] = [p for p in sys.path if p.startswith((sys.base_prefix, sys.prefix))]
    sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
    sys.argv[:] = ["solution.py"]
    for name in [name for name in sys.modules if name.split(".")[0] in ("services", "rlsd")]:
        _KEPT.append(sys.modules.pop(name))


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


class Zygote:
    """Forks runs and ends them at their deadline."""

    def __init__(self, control: socket.socket, box: Box, *, is_private: bool) -> None:
        """Take over; `is_private` says whether a run is process 1 of its own."""
        self._control = control
        self._box = box
        self._runs: dict[int, Run] = {}
        self._poll = select.poll()
        self._next_look = 0.0
        self._itself = os.pidfd_open(os.getpid())
        self._own_processes = -1
        if is_private:
            self._own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY)

    def serve(self) -> None:
        """Say that all is ready, then work until nobody is there any more."""
        self._poll.register(self._control, select.POLLIN)
        self._say({"ready": True, "remark": self._box.remark})
        while True:
            for descriptor, _ in self._poll.poll(self._wait_ms()):
                if descriptor == self._control.fileno():
                    if not self._take_order():
                        return
                else:
                    self._finish(self._runs[descriptor])
            self._end_the_late()
            self._end_the_greedy()

    def _take_order(self) -> bool:
        text, descriptors, _, _ = socket.recv_fds(self._control, ORDER_BYTES, MAX_DESCRIPTORS)
        if not text:
            return False
        order = json.loads(text)
        if "end" in order:
            for run in self._runs.values():
                if run.id == order["end"]:
                    signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
            return True
        try:
            self._start(order, descriptors)
        except OSError as error:
            self._say({"id": order["id"], "failed": f"cannot fork ({error.strerror})"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, order: dict[str, Any], descriptors: list[int]) -> None:
        flag = mmap.mmap(-1, mmap.PAGESIZE)
        started = time.monotonic()
        pid = self._fork()
        if pid == 0:
            self._become(order, descriptors, flag)
        pidfd = os.pidfd_open(pid)
        limit_s = float(order["wall_s"])
        is_alone = not self._box.jobs[order["job"]].starts_programs
        run = Run(order["id"], pid, pidfd, started, limit_s, started + limit_s, flag, is_alone)
        run.most_bytes = order["all_memory"]
        self._runs[pidfd] = run
        self._poll.register(pidfd, select.POLLIN)

    def _fork(self) -> int:
        """The child is process 1 of a namespace of its own, where there are any."""
        if self._own_processes < 0:
            return os.fork()
        unshare(Namespace.PID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                enter_namespace(self._own_processes, Namespace.PID)
        return pid

    def _become(self, order: dict[str, Any], descriptors: list[int], flag: mmap.mmap) -> None:
        """In the forked process: confine it and do the job. Never returns."""
        code = SETUP_FAILED
        try:
            die_with_parent(signal.SIGKILL)
            if _has_ended(self._itself):  # before it could be heard of
                os._exit(code)
            job = self._box.jobs[order["job"]]
            if order["joins"]:
                join(descriptors.pop())
            self._leave_descriptors(descriptors)
            for run in self._runs.values():
                run.is_confined.close()
            limits = Limits(memory_bytes=order["memory"], output_bytes=order["output"])
            self._box.enter(job, limits)
            flag[0] = 1
            flag.close()
            self._runs.clear()
            job.run(PAYLOAD, list(range(PAYLOAD + 1, PAYLOAD + len(descriptors) - 3)))
            code = 0
        except BaseException:  # noqa: BLE001 - this process has no caller to raise to
            os.write(2, traceback.format_exc()[-2000:].encode())
        finally:
            os._exit(code)

    @staticmethod
    def _leave_descriptors(descriptors: list[int]) -> None:
        """Payload to 3, the standard streams to 0 … 2, the job's own from 4; no other stays."""
        payload, *streams = descriptors
        own = streams[3:]
        first_free = 100
        moved = [payload, *streams[:3], *own]
        for number, descriptor in enumerate(moved):
            os.dup2(descriptor, first_free + number)
        places = [PAYLOAD, 0, 1, 2, *range(PAYLOAD + 1, PAYLOAD + 1 + len(own))]
        for number, place in enumerate(places):
            os.dup2(first_free + number, place)
        os.closerange(max(places) + 1, 65536)

    def _finish(self, run: Run) -> None:
        wall_s = time.monotonic() - run.started
        waited = main_thread_waited_s(run.pid)
        if not run.is_alone:  # what its children waited is forgotten by now
            waited = wall_s * _LONGEST_STRETCH / (1 + _LONGEST_STRETCH)
        _, status, usage = os.wait4(run.pid, 0)
        cpu_s = usage.ru_utime + usage.ru_stime
        self._poll.unregister(run.pidfd)
        os.close(run.pidfd)
        del self._runs[run.pidfd]
        is_confined = bool(run.is_confined[0])
        run.is_confined.close()
        self._say(
            {
                "id": run.id,
                "status": status,
                "confined": is_confined,
                "timed_out": run.is_timed_out,
                "out_of_memory": run.is_out_of_memory,
                "cpu_s": cpu_s,
                "used_s": min(wall_s, max(cpu_s, wall_s - waited)),
                "peak_bytes": usage.ru_maxrss * 1024,
                "wall_s": wall_s,
            }
        )

    def _end_the_late(self) -> None:
        now = time.monotonic()
        for run in self._runs.values():
            if now < run.deadline or run.is_timed_out:
                continue
            stretch = min(waited_s(run.pid), _LONGEST_STRETCH * run.limit_s)
            run.deadline = run.started + run.limit_s + stretch
            if now >= run.deadline - 0.001:
                run.is_timed_out = True
                signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)

    def _end_the_greedy(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        for run in self._runs.values():
            if run.most_bytes and held_bytes(run.pid) > run.most_bytes:
                run.is_out_of_memory = True
                signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)

    def _wait_ms(self) -> float | None:
        waiting = [run.deadline for run in self._runs.values() if not run.is_timed_out]
        if not waiting:
            return None
        if any(run.most_bytes for run in self._runs.values()):
            waiting.append(self._next_look)
        return max(0.0, min(waiting) - time.monotonic()) * 1000 + 1

    def _say(self, message: dict[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
