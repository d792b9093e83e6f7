"""One verifier with one maths child for the whole session: a child takes a second to warm up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import trustme

from rlsd.config import VerifierSection
from rlsd.trajectory import (
    FinishReason,
    Group,
    GroupPlan,
    Prompt,
    SamplingParams,
    TeacherNeed,
    Trajectory,
    VerifierSpec,
)
from services.verifier.core import Verifier, open_verifier
from tests.postgres_server import PostgresServer, postgres_server

TIMEOUT_S = 1.0

GroupMaker = Callable[..., Group]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def verifier() -> AsyncIterator[Verifier]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLSD_REDIS_URL", "redis://:secret@127.0.0.1/0")
        async with open_verifier(VerifierSection(timeout_s=TIMEOUT_S)) as opened:
            yield opened


@pytest.fixture
def make_group() -> GroupMaker:
    def make(
        texts: Sequence[str], reference: str, kind: str, *, teacher: TeacherNeed = TeacherNeed.NONE
    ) -> Group:
        return Group(
            run_id="run",
            group_id="g",
            index=0,
            prompt=Prompt(
                id="p", messages=(), reference=reference, verifier=VerifierSpec(kind=kind)
            ),
            sampling=SamplingParams(num_completions=len(texts)),
            plan=GroupPlan(teacher=teacher),
            required_policy_version=0,
            trajectories=tuple(
                Trajectory(
                    member=member,
                    token_ids=np.arange(3, dtype=np.int32),
                    rollout_logprobs=np.zeros(3, np.float32),
                    text=text,
                    finish_reason=FinishReason.STOP,
                    min_policy_version=0,
                    max_policy_version=0,
                )
                for member, text in enumerate(texts)
            ),
        )

    return make


@pytest.fixture
def child_pids() -> Callable[[], list[int]]:
    """The maths children of this process, from /proc: the service tells nobody."""

    def find() -> list[int]:
        own = Path("/proc/self").resolve().name
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = stat.read_text().rpartition(")")[2].split()[1]
                command = (stat.parent / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == own and b"checks.math.algebra" in command:
                found.append(int(stat.parent.name))
        return found

    return find


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path
