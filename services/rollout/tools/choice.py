"""The tools that the configuration names."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from rlsd.config import HttpToolSection, ToolsSection
from rlsd.errors import ConfigError
from rlsd.serving.channel import open_channel
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.rollout.tools.http import HttpTool
from services.rollout.tools.tool import Tool
from services.rollout.tools.toolbox import Bound, Toolbox
from services.rollout.tools.verifier import VerifierTool


@contextlib.asynccontextmanager
async def open_toolbox(section: ToolsSection, *, verifier: str) -> AsyncIterator[Toolbox]:
    """The tools with their connections.

    Args:
        verifier: address of the verifier service.

    Raises:
        ConfigError: an address, a secret, a certificate or a schema is wrong.
    """
    async with open_channel(verifier) as channel:
        stub = rpc.VerifierServiceStub(channel)
        tools: dict[str, Bound] = {}
        for name, of_tool in section.use.items():
            try:
                tool: Tool = (
                    HttpTool(name, of_tool)
                    if isinstance(of_tool, HttpToolSection)
                    else VerifierTool(name, of_tool, stub)
                )
                tools[name] = Bound(
                    tool,
                    parameters=of_tool.parameters,
                    max_concurrency=of_tool.max_concurrency,
                    total_s=of_tool.total_timeout_s,
                )
            except ConfigError as cause:
                raise ConfigError(f"tools.use.{name}: {cause}") from cause
        yield Toolbox(tools)
