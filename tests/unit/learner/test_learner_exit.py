"""What a learner's exit code says of the run."""

import sys
from types import SimpleNamespace

import pytest

from rlsd.errors import STOPPED_EXIT_CODE, ConfigError
from services.learner import __main__ as command

CONFIG = "examples/chain/rlsd.toml"


def ended(monkeypatch, start):
    """The exit code of a learner whose `start` is this one."""
    monkeypatch.setitem(sys.modules, "services.learner.start", SimpleNamespace(start=start))
    monkeypatch.setattr(command, "configure", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["learner", "--config", CONFIG])
    try:
        command.main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize(("is_done", "code"), [(True, 0), (False, STOPPED_EXIT_CODE)])
def test_zero_says_that_the_run_is_done(monkeypatch, is_done, code):
    async def start(*_, **__):
        return is_done

    assert ended(monkeypatch, start) == code


def test_what_would_not_be_better_another_time_has_a_code_of_its_own(monkeypatch):
    async def start(*_, **__):
        raise ConfigError("model.path: nothing there")

    assert ended(monkeypatch, start) == 78
