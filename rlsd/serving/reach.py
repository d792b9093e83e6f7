"""`python -m rlsd.serving.reach serving|closed|queues HOST:PORT…`: what can be reached from here.

`serving` wants the health service of every address to answer SERVING; `closed` wants nobody to
answer any more within half a minute, which is how a NetworkPolicy is seen to be enforced; `queues`
wants the Redis of `RLSD_REDIS_URL_FILE` or `RLSD_REDIS_URL`, and takes no address. Exit code 1 when
it is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence

from rlsd.config import Addresses
from rlsd.errors import RlsdError, ServiceError, StreamError
from rlsd.serving.channel import wait_until_serving
from rlsd.serving.http import split_address
from rlsd.streams.redis import RedisStream

_SERVING_S = 60.0
_CLOSED_S = 3.0
_CLOSING_S = 30.0
"""A CNI may learn of a pod only after its start, and close a little later what was open then."""
_AGAIN_S = 1.0
_QUEUES_S = 30.0


async def serving(addresses: Sequence[str]) -> None:
    """Raise ServiceError for the first address that does not serve."""
    for address in addresses:
        await wait_until_serving(address, timeout_s=_SERVING_S)


async def closed(addresses: Sequence[str]) -> None:
    """Raise ServiceError when somebody still accepts a connection after `_CLOSING_S`.

    Refused is closed: some CNIs drop what a policy forbids, others refuse it.
    """
    deadline = time.monotonic() + _CLOSING_S
    while names := await _reached(addresses):
        if time.monotonic() + _AGAIN_S > deadline:
            raise ServiceError(
                f"{', '.join(names)} can be reached after {_CLOSING_S:.0f} s; have a CNI that "
                f"enforces NetworkPolicies"
            )
        await asyncio.sleep(_AGAIN_S)


async def _reached(addresses: Sequence[str]) -> list[str]:
    reached = await asyncio.gather(*map(_is_reached, addresses))
    return [a for a, is_reached in zip(addresses, reached, strict=True) if is_reached]


async def queues(url: str) -> None:
    """Raise StreamError when Redis does not answer."""
    stream = RedisStream.from_url(url, "reach")
    try:
        async with asyncio.timeout(_QUEUES_S):
            await stream.ping()
    except TimeoutError as cause:
        raise StreamError(
            f"Redis: no answer within {_QUEUES_S:.0f} s; is it let through?"
        ) from cause
    finally:
        await stream.aclose()


async def _is_reached(address: str) -> bool:
    host, port = split_address(address, "address")
    try:
        async with asyncio.timeout(_CLOSED_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # refused, no route, no such name, or nothing within the time
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def api_server(environment: Mapping[str, str] = os.environ) -> str:
    """Address of the API server, which every pod is told."""
    return f"{environment['KUBERNETES_SERVICE_HOST']}:{environment['KUBERNETES_SERVICE_PORT']}"


def main() -> None:
    """Look, and say what is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m rlsd.serving.reach", description=__doc__)
    parser.add_argument("wanted", choices=("serving", "closed", "queues"))
    parser.add_argument("addresses", nargs="*", metavar="HOST:PORT")
    parser.add_argument("--api-server", action="store_true", help="look at the cluster's, too")
    arguments = parser.parse_intermixed_args()  # the option may stand before the addresses
    further = [api_server()] if arguments.api_server else []
    addresses = [*arguments.addresses, *further]
    try:
        match arguments.wanted:
            case "queues":
                asyncio.run(queues(Addresses.from_environment().redis_url))
            case "serving":
                asyncio.run(serving(addresses))
            case _:
                asyncio.run(closed(addresses))
    except RlsdError as error:
        sys.exit(f"rlsd: {error}")


if __name__ == "__main__":
    main()
