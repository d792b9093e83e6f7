"""Ask a server for a verdict as the verifier does, and what its metrics say then."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from rlsd.config import HttpVerifierSection
from rlsd.errors import VerifierError
from rlsd.verifier_client.client import Pace, http_verifier
from rlsd.verifier_contract.native import VerifyRequest

LOOPBACK = ("127.0.0.0/8",)
REQUEST = VerifyRequest(completion="the answer is 9", reference="9", trajectory_id="r/g/0")
AT_ONCE = Pace(random=lambda: 0.0)
"""No pauses between tries."""


async def judge(url, request=REQUEST, *, pace=AT_ONCE, **settings):
    section = HttpVerifierSection(**{"url": url, "allow_cidrs": LOOPBACK} | settings)
    verifier = http_verifier("outside", section, pace=pace)
    return await verifier.judge(request)


async def fails(server, words, **settings):
    with pytest.raises(VerifierError, match=words) as caught:
        await judge(server.url, **settings)
    return str(caught.value)


def metric(name, **labels):
    return REGISTRY.get_sample_value(name, {"verifier": "outside", **labels}) or 0.0
