"""`python -m rlsd.serving.reach serving|closed HOST:PORT…`: what can be reached from here.

`serving` wants the health service of every address to answer SERVING; `closed` wants nobody to
answer at all, which is how a NetworkPolicy is seen to be enforced. Exit code 1 when it is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence

from rlsd.errors import RlsdError, ServiceError
from rlsd.serving.channel import wait_until_serving
from rlsd.serving.http import split_address

_SERVING_S = 60.0
_CLOSED_S = 3.0


async def serving(addresses: Sequence[str]) -> None:
    """Raise ServiceError for the first address that does not serve."""
    for address in addresses:
        await wait_until_serving(address, timeout_s=_SERVING_S)


async def closed(addresses: Sequence[str]) -> None:
    """Raise ServiceError when anybody accepts a connection.

    Refused is closed: some CNIs drop what a policy forbids, others refuse it.
    """
    reached = await asyncio.gather(*map(_is_reached, addresses))
    if names := [a for a, is_reached in zip(addresses, reached, strict=True) if is_reached]:
        raise ServiceError(
            f"{', '.join(names)} can be reached; have a CNI that enforces NetworkPolicies"
        )


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
    parser.add_argument("wanted", choices=("serving", "closed"))
    parser.add_argument("addresses", nargs="*", metavar="HOST:PORT")
    parser.add_argument("--api-server", action="store_true", help="look at the cluster's, too")
    arguments = parser.parse_intermixed_args()  # the option may stand before the addresses
    look = serving if arguments.wanted == "serving" else closed
    further = [api_server()] if arguments.api_server else []
    try:
        asyncio.run(look([*arguments.addresses, *further]))
    except RlsdError as error:
        sys.exit(f"rlsd: {error}")


if __name__ == "__main__":
    main()
