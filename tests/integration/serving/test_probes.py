"""`/livez` and `/readyz` of a service made of the real parts: lifecycle, stage worker, batcher."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import httpx
import pytest

from rlsd.serving.batcher import Batcher
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.serving.lifecycle import ServerConfig, serve
from rlsd.streams.memory import MemoryStream
from rlsd.streams.stage import Stage
from rlsd.streams.worker import Job, work
from rlsd.telemetry.activity import Activity, Part
from rlsd.wire.v1 import teacher_service_pb2_grpc as rpc
from services.verifier.app import create_app


def get(address, route):
    try:
        with urllib.request.urlopen(f"http://{address}{route}", timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()


async def eventually(holds):
    """Return once `holds()`; what it looks at changes in another thread."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


class Clock:
    """Real time, and as much again as a test wants to pass."""

    def __init__(self):
        self.passed = 0.0

    def __call__(self):
        return time.monotonic() + self.passed


class StuckStream(MemoryStream):
    """Its claim never returns once it is stuck."""

    is_stuck = False

    async def claim(self, *args, **kwargs):
        if self.is_stuck:
            await asyncio.Event().wait()
        return await super().claim(*args, **kwargs)


class Service:
    """A stage service with all three parts; its compute thread runs `compute`."""

    def __init__(self, compute=lambda items: items, *, has_queue=True):
        self.has_queue = has_queue
        self.clock = Clock()
        self.activity = Activity(stall_after_s=120, clock=self.clock)
        self.stream = StuckStream()
        self.batcher = Batcher(compute, max_items=8, pulse=lambda: self.activity.tick(Part.COMPUTE))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    async def _work(self, stopping):
        if not self.has_queue:
            await stopping.wait()
            return
        job = Job(
            stage=Stage.TEACH,
            consumer="ann",
            process=self.batcher.submit,
            on_dead=lambda *_: b"",
            activity=self.activity,
        )
        await work(self.stream, job, stopping=stopping)

    @contextlib.asynccontextmanager
    async def running(self, **probes):
        def register(server):
            rpc.add_TeacherServiceServicer_to_server(rpc.TeacherServiceServicer(), server)
            return "rlsd.wire.v1.TeacherService"

        ready = asyncio.Event()
        with probes_endpoint(self.address, Probes(activity=self.activity, **probes)):
            async with self.batcher, asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    serve(
                        ServerConfig(drain_s=1),
                        register,
                        [self._work],
                        activity=self.activity,
                        on_ready=lambda _: ready.set(),
                    )
                )
                await ready.wait()
                await self.all_tick()
                yield
                os.kill(os.getpid(), signal.SIGTERM)

    async def all_tick(self):
        """Return when every part that moves has ticked after now."""
        await eventually(lambda: self.activity.snapshot().progress_age_s < 2)

    async def get(self, route):
        return await asyncio.to_thread(get, self.address, route)

    async def until_stalled(self, part):
        """Return when this part alone is behind."""
        await eventually(lambda: self.activity.snapshot().stalled.startswith(part))


async def test_an_idle_service_stays_alive():
    service = Service()
    async with service.running():
        for _ in range(4):
            service.clock.passed += 100  # four of them are far beyond the limit of 120
            status, words = await service.get("/livez")
            assert status == 200, words
            await service.all_tick()


async def test_a_blocked_event_loop_is_not_alive_and_recovers():
    service = Service()
    async with service.running():
        service.clock.passed += 200
        status, words = get(service.address, "/livez")  # this very call blocks the event loop
        assert status == 503
        assert "STALLED" in words
        assert "no progress for 3 min 2" in words
        await service.all_tick()
        assert (await service.get("/livez"))[0] == 200


async def test_a_blocked_event_loop_is_named_where_there_is_no_queue_to_work_on():
    service = Service(has_queue=False)
    async with service.running():
        service.clock.passed += 200
        service.activity.tick(Part.COMPUTE)  # it has a thread of its own
        status, words = get(service.address, "/livez")
    assert status == 503
    assert "STALLED: event loop: no progress" in words


async def test_a_stuck_compute_thread_is_named_while_the_rest_ticks_on():
    entered, leave = threading.Event(), threading.Event()

    def stuck(items):
        entered.set()
        leave.wait(20)
        return items

    service = Service(stuck)
    async with service.running():
        call = asyncio.ensure_future(service.batcher.submit(b""))
        await asyncio.to_thread(entered.wait, 5)
        service.clock.passed += 200
        await service.until_stalled("compute thread")
        status, words = await service.get("/livez")
        assert status == 503
        assert "STALLED: compute thread: no progress" in words
        leave.set()
        await call
        await service.all_tick()
        assert (await service.get("/livez"))[0] == 200


async def test_a_loop_that_awaits_what_never_comes_is_named():
    service = Service()
    async with service.running():
        service.stream.is_stuck = True
        await asyncio.sleep(1)  # the claim under way ends; the next one hangs
        service.clock.passed += 200
        await service.until_stalled("loop")
        status, words = await service.get("/livez")
        assert status == 503
        assert "STALLED: loop: no progress" in words


async def test_a_service_is_ready_when_it_serves_and_lacks_nothing():
    service, lacks = Service(), ["no weights are installed yet"]
    async with service.running(lacks=lambda: lacks[0]):
        assert await service.get("/readyz") == (503, "not ready: no weights are installed yet")
        lacks[0] = ""
        assert await service.get("/readyz") == (200, "ready")
    assert not service.activity.is_serving


async def test_there_are_three_routes():
    service = Service()
    async with service.running():
        assert (await service.get("/metrics"))[0] == 200
        assert (await service.get("/health"))[0] == 404


@pytest.mark.parametrize("passed_s", [0, 200])
async def test_the_verifiers_http_face_has_the_same_routes(passed_s):
    clock = Clock()
    activity = Activity(stall_after_s=120, clock=clock)
    activity.tick()
    clock.passed = passed_s
    activity.is_serving = not passed_s
    transport = httpx.ASGITransport(app=create_app(None, probes=Probes(activity=activity)))
    async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as client:
        statuses = [(await client.get(route)).status_code for route in ("/livez", "/readyz")]
    assert statuses == ([503, 503] if passed_s else [200, 200])
