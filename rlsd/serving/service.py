"""A service that is wired and whose engine runs. Where calls come from is for others to arrange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from rlsd.serving.http import Probes, probes_endpoint
from rlsd.serving.lifecycle import Background, ServerConfig, serve
from rlsd.telemetry.metrics import SERVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What `serve_service` puts on a port, and Ray Serve behind its proxy."""

    name: str
    """Full proto name."""
    servicer: Any
    add: Callable[[Any, grpc.aio.Server], None]
    """The generated `add_…_to_server`."""
    probes: Probes
    background: Sequence[Background] = ()

    @property
    def label(self) -> str:
        """Its name in metrics: `rollout` of `rlsd.wire.v1.RolloutService`."""
        return self.name.rpartition(".")[2].removesuffix("Service").lower()

    def register(self, server: grpc.aio.Server) -> str:
        """Add the servicer to a server; its full proto name."""
        self.add(self.servicer, server)
        return self.name


async def serve_service(
    service: Service,
    *,
    bind: str,
    metrics: str | None,
    background: Sequence[Background] = (),
    lacks: Callable[[], str] = lambda: "",
) -> None:
    """Serve until stopped.

    Args:
        metrics: address of the probes, if wanted.
        background: further loops.
        lacks: what keeps gRPC's health from SERVING.
    """
    SERVICE.watch(service.label, service.probes.activity, service.probes.is_ready)
    with probes_endpoint(metrics, service.probes):
        await serve(
            ServerConfig(bind=bind),
            service.register,
            [*service.background, *background],
            activity=service.probes.activity,
            lacks=lacks,
        )
