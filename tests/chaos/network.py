"""Two network namespaces and a link between them that can be cut; nothing else can be reached.

`home` is where the run is, `away` where its far worker is. Both vanish with the context, and
neither has a way to any other network. It needs the rights to make namespaces.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pyroute2 import IPRoute, NetlinkError, netns

HOME_ADDRESS = "198.51.100.1"
AWAY_ADDRESS = "198.51.100.2"
_PREFIX = 30
_EXEC_INSIDE = """
import os, sys
from pyroute2 import netns
netns.setns(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class PrivateLink:
    """The link, seen from home; its methods block for a moment."""

    away: str
    """The far namespace."""

    def cut(self) -> None:
        """From now on packets vanish; nobody is told."""
        _set("home", state="down")

    def mend(self) -> None:
        """Packets arrive again."""
        _set("home", state="up")

    def inside(self, command: list[str]) -> list[str]:
        """The command that runs another one in the far namespace."""
        return [sys.executable, "-c", _EXEC_INSIDE, self.away, *command]


@contextlib.contextmanager
def private_link() -> Iterator[PrivateLink]:
    """Make both namespaces and be at home in one, with all processes started meanwhile."""
    home, away = f"rlsd-home-{os.getpid()}", f"rlsd-away-{os.getpid()}"
    with _namespace(home), _namespace(away):
        with _in(home):
            with IPRoute() as here:
                here.link("add", ifname="home", kind="veth", peer=_end("away", away))
            _set("lo", state="up")
            _set("home", state="up", address=HOME_ADDRESS)
        with _in(away):
            _set("lo", state="up")
            _set("away", state="up", address=AWAY_ADDRESS)
        with _in(home):
            yield PrivateLink(away)


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[None]:
    try:
        netns.create(name)
    except (OSError, NetlinkError) as cause:
        pytest.skip(f"this machine makes no network namespaces ({cause})")
    try:
        yield
    finally:
        netns.remove(name)


@contextlib.contextmanager
def _in(name: str) -> Iterator[None]:
    """This thread, and the threads and processes that it starts, are in a namespace."""
    netns.pushns(name)
    try:
        yield
    finally:
        netns.popns()


def _end(name: str, namespace: str) -> dict[str, str]:
    return {"ifname": name, "net_ns_fd": namespace}


def _set(name: str, *, state: str, address: str | None = None) -> None:
    with IPRoute() as here:
        (index,) = here.link_lookup(ifname=name)
        if address:
            here.addr("add", index=index, address=address, prefixlen=_PREFIX)
        here.link("set", index=index, state=state)
