"""Tier T3 without its component: where it comes from, when it is refused, what a failure says."""

from __future__ import annotations

import importlib.util
import os
import stat

import pytest

from rlsd.errors import VerifierError
from services.verifier.checks.code import prepare
from services.verifier.checks.code.boxed import program
from services.verifier.checks.code.check import JOBS
from services.verifier.checks.code.runs import refuse_lacking
from services.verifier.sandbox.ending import SandboxError
from services.verifier.sandbox.files import RunFiles
from services.verifier.sandbox.tier import Tier
from services.verifier.sandbox.wasm import build, component

SHORT = (program.__name__,)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "wasm"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(component.FOLDER, str(folder))
    return folder


def _noted(tier, text):
    files = RunFiles({}, tier=tier)
    if tier.is_partial:
        os.write(files.descriptors[-1], text.encode())
    return files


def test_the_tiers_are_in_order_of_strength():
    reached = {low: [tier.value for tier in Tier if tier.is_at_least(low)] for low in Tier}
    assert reached == {"T1": ["T1"], "T2": ["T1", "T2"], "T3": ["T1", "T2", "T3"]}


def test_a_component_is_found_by_all_that_goes_in(own_folder, monkeypatch):
    path = component.component_path(JOBS)
    assert path.parent == own_folder
    assert path == component.component_path(JOBS)
    assert path != component.component_path(SHORT)
    monkeypatch.setattr(component, "COMPONENTIZE", "0.0.1")
    assert path != component.component_path(JOBS)


def test_nothing_of_the_service_goes_in_but_the_boxed_code():
    folders = {os.path.dirname(name) for name, _ in component.sources(JOBS)}
    assert folders == {
        "services/verifier/checks/code/boxed",
        "services/verifier/sandbox",
        "services/verifier/sandbox/wasm",
        "services/verifier/sandbox/wasm/guest",
    }
    alone = [name for name, _ in component.sources(JOBS) if name.count("/") == 3]
    assert alone == ["services/verifier/sandbox/paths.py"]


async def test_without_the_extra_the_refusal_names_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SandboxError, match=r"wasmtime is not installed; install rlsd\[wasm\]"):
        await component.find_component(JOBS)


async def test_another_builder_is_refused(monkeypatch):
    monkeypatch.setattr(build, "COMPONENTIZE", "0.0.1")
    with pytest.raises(RuntimeError, match=r"needs componentize-py 0.0.1, here is"):
        build.build(SHORT)


def test_a_build_that_takes_too_long_says_so_and_leaves_nothing(own_folder):
    with pytest.raises(RuntimeError, match=r"componentize-py has not ended within 0 s"):
        build.build(SHORT, timeout_s=0.01)
    assert [path.name for path in own_folder.iterdir()] == ["lock"]


def test_an_image_that_is_built_on_a_busy_machine_has_the_time(monkeypatch, capsys):
    given = {}

    def built(jobs, *, timeout_s):
        given.update(jobs=jobs, timeout_s=timeout_s)
        return component.component_path(jobs)

    monkeypatch.setattr(build, "build", built)
    prepare.main()
    assert given["timeout_s"] >= 1800
    assert capsys.readouterr().out == f"{component.component_path(given['jobs'])}\n"


@pytest.mark.parametrize("part", ["file", "folder"])
async def test_a_component_that_others_may_write_is_not_loaded(own_folder, part):
    path = component.component_path(SHORT)
    path.write_bytes(b"compiled")
    path.chmod(0o600)
    assert await component.find_component(SHORT) == path
    target = path if part == "file" else own_folder
    target.chmod(target.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(SandboxError, match="can be written by others; chmod go-w it"):
        await component.find_component(SHORT)


def test_a_build_leaves_the_newest_components(own_folder):
    for number in range(8):
        path = own_folder / f"guest-{number}.cwasm"
        path.touch()
        os.utime(path, (number, number))
    build._forget_the_oldest(own_folder / "guest-0.cwasm")
    kept = sorted(path.stem for path in own_folder.iterdir())
    assert kept == ["guest-0", "guest-4", "guest-5", "guest-6", "guest-7"]


@pytest.mark.parametrize(
    ("wrong", "notes", "what"),
    [
        ("another output", "module numpy\nthreads\n", "module numpy, threads"),
        ("exit code 1: RecursionError: Stack overflow (used 1008 kB)", "", "so much stack"),
        ("exit code 1: OverflowError: cannot fit 'int' into an index-sized integer", "", "64-bit"),
    ],
)
def test_a_failure_for_what_only_other_tiers_have_says_nothing(wrong, notes, what):
    with _noted(Tier.T3, notes) as files, pytest.raises(VerifierError, match=what) as found:
        refuse_lacking(Tier.T3, wrong, files)
    assert wrong in str(found.value)
    with _noted(Tier.T1, notes) as files:
        refuse_lacking(Tier.T1, wrong, files)


def test_a_failure_of_its_own_stays_one():
    with _noted(Tier.T3, "") as files:
        refuse_lacking(Tier.T3, "exit code 1: RecursionError: maximum recursion depth", files)
