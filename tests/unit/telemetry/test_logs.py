"""What stands in a log line, and what never does."""

import asyncio
import io
import json
import logging
import subprocess
import sys

import pytest

from rlsd.telemetry import logs
from rlsd.telemetry.logs import JsonLines, crash_words, join_traces, withhold, work_on
from rlsd.telemetry.withholding import GAP

SECRET = "the king of the canaries"


@pytest.fixture
def lines():
    """Everything that is logged, as the services log it."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines(service="rollout", run_id="r"))
    log = logging.getLogger("rlsd")
    log.addHandler(handler)
    before, log.level = log.level, logging.DEBUG
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    log.removeHandler(handler)
    log.setLevel(before)


log = logging.getLogger("rlsd.test")


def test_a_line_has_its_event_its_fields_and_the_ids_of_the_process(lines):
    log.warning("weights not installed", extra={"version": 3})
    [line] = lines()
    assert line.pop("time")[-6:] == "+00:00"
    assert line == {
        "level": "warning",
        "event": "weights not installed",
        "logger": "rlsd.test",
        "service": "rollout",
        "run_id": "r",
        "version": 3,
    }


async def test_ids_are_those_of_the_task_that_works_on_the_group(lines):
    async def task(group_id):
        work_on(group_id=group_id)
        await asyncio.sleep(0)
        work_on(stage="verify")
        log.info("done")

    await asyncio.gather(*(asyncio.create_task(task(g)) for g in ("g1", "g2")))
    log.info("after")
    assert [(x.get("group_id"), x.get("stage")) for x in lines()] == [
        *(("g1", "verify"), ("g2", "verify"), (None, None)),
    ]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
async def test_above_debug_nothing_quotes_the_group_in_hand(lines, level):
    async def task():
        work_on([SECRET, "delivery failed"], group_id="g1")
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            extra = {"reason": f"refused: {SECRET!r}", "words": [SECRET], "n": 1}
            log.log(level, "delivery failed", extra=extra, exc_info=error)

    await asyncio.create_task(task())
    [line] = lines()
    assert SECRET not in json.dumps(line)
    assert line["reason"] == f"refused: '{GAP}'"
    assert f"KeyError: '{GAP}'" in line["traceback"]
    assert (line["event"], line["group_id"], line["n"]) == ("delivery failed", "g1", 1)


async def test_at_debug_everything_is_said(lines):
    work_on([SECRET])
    log.debug("drawn", extra={"text": SECRET})
    assert lines()[0]["text"] == SECRET


async def test_what_a_part_of_the_work_withholds_the_whole_of_it_withholds(lines):
    work_on(group_id="g1")

    async def member():
        withhold(SECRET)

    await asyncio.create_task(member())
    log.info("failed", extra={"reason": f"tool refused {SECRET}"})
    assert lines()[0]["reason"] == f"tool refused {GAP}"


def test_a_trace_joins_the_line(lines, monkeypatch):
    monkeypatch.setattr(logs, "_trace_ids", dict)
    join_traces(lambda: {"trace_id": "0af7"})
    log.info("done")
    assert lines()[0]["trace_id"] == "0af7"


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("kind", [KeyError, ValueError, UnicodeError, json.JSONDecodeError])
def test_a_crash_over_a_value_does_not_tell_the_value(kind):
    error = kind(SECRET, SECRET, 0) if kind is json.JSONDecodeError else kind(SECRET)
    words = crash_words(raised(error))
    assert SECRET not in words
    assert "in raised" in words
    assert kind.__name__ in words


def test_a_crash_of_the_machine_tells_its_reason():
    words = crash_words(raised(RuntimeError("CUDA out of memory")))
    assert words.endswith("RuntimeError: CUDA out of memory")


def test_of_a_group_of_exceptions_the_first_is_told():
    error = ExceptionGroup("many", [ExceptionGroup("few", [OSError("no disk")])])
    assert crash_words(raised(error)).endswith("OSError: no disk")


def ended(code):
    start = "from rlsd.telemetry.logs import configure_logs; configure_logs('rollout')\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr.splitlines()


def test_a_process_that_crashes_says_so_as_json_and_in_a_line_for_people():
    code, (line, last) = ended(f"raise KeyError({SECRET!r})")
    assert code == 1
    assert last == "rlsd rollout: crashed: KeyError: its message may quote a value"
    found = json.loads(line)
    assert (found["level"], found["event"]) == ("critical", "process crashed")
    assert "<module>" in found["traceback"]


def test_a_thread_that_crashes_says_so_as_json():
    code, [line] = ended(
        "import threading\n"
        "def f(): raise ValueError('the king')\n"
        "t = threading.Thread(target=f); t.start(); t.join()"
    )
    assert code == 0
    assert json.loads(line)["event"] == "thread crashed"
    assert "king" not in line


def test_libraries_come_as_json_from_warning_on_even_those_with_handlers_of_their_own():
    code, found = ended(
        "import logging, warnings\n"
        "theirs = logging.getLogger('vllm.engine'); theirs.setLevel('INFO')\n"
        "theirs.addHandler(logging.StreamHandler()); theirs.propagate = False\n"
        "from rlsd.telemetry.logs import adopt_libraries; adopt_libraries()\n"
        "theirs.info('loading'); theirs.warning('slow')\n"
        "logging.getLogger('httpx').info('GET'); logging.getLogger('grpc').warning('lost')\n"
        "logging.getLogger('rlsd.x').info('ours'); warnings.warn('old')\n"
    )
    assert code == 0
    events = [json.loads(line)["event"] for line in found]
    assert events[:3] == ["slow", "lost", "ours"]
    assert "old" in events[3]
    assert len(events) == 4
