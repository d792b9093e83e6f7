"""Tests by standard input and output."""

from __future__ import annotations

from dataclasses import replace

from rlsd.trajectory import Verdict
from services.verifier.checks.check import scored
from services.verifier.checks.code.languages import Build, Toolchains
from services.verifier.checks.code.output import same_output
from services.verifier.checks.code.params import CodeParams, StdioCase, StdioTests
from services.verifier.checks.code.runs import PROGRAM, limits_of, own_fault, repeated
from services.verifier.sandbox.client import Sandbox
from services.verifier.sandbox.files import RunFiles


class StdioRunner:
    """Runs a program on each case and compares what it prints."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._toolchains = Toolchains(sandbox)

    async def verdict(self, params: CodeParams, source: str) -> Verdict:
        """1 for the right output of every case.

        Raises:
            VerifierError: the language or the sandbox cannot be had.
        """
        assert isinstance(params.tests, StdioTests)
        if params.language == "python":
            return await self._cases(params, Build(PROGRAM, {"source": source}))
        async with self._toolchains.built(params, source) as build:
            if isinstance(build, str):
                return scored(0.0, build)
            return await self._cases(params, build)

    async def _cases(self, params: CodeParams, build: Build) -> Verdict:
        assert isinstance(params.tests, StdioTests)
        cases = params.tests.cases
        for number, case in enumerate(cases, start=1):
            wrong = await repeated(lambda case=case: self._wrong(params, build, case))  # type: ignore[misc]
            if wrong:
                return scored(0.0, f"case {number} of {len(cases)}: {wrong}")
        return scored(1.0, f"{len(cases)} cases")

    async def _wrong(self, params: CodeParams, build: Build, case: StdioCase) -> str:
        """What is wrong with a case; empty when it is right."""
        limits = limits_of(params, expected=len(case.output.encode("utf-8", "surrogatepass")))
        limits = replace(limits, memory_bytes=limits.memory_bytes + build.reserved_bytes)
        text = case.input.encode("utf-8", "surrogatepass")
        with RunFiles(build.payload, text, build.artifact) as files:
            ended = await self._sandbox.run(build.job, files.descriptors, limits)
            if fault := own_fault(ended, files, limits):
                return fault
            found = files.output(limits.output_bytes)
        return "" if same_output(found, case.output) else "another output"
