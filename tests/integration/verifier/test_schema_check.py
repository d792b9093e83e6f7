import json
import socket
import threading
import time
from pathlib import Path

import pytest

from rlsd.trajectory import VerdictOutcome, VerifierSpec

pytestmark = pytest.mark.asyncio(loop_scope="session")

CORPUS = Path(__file__).parents[2] / "corpus"
META = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
}


def _spec(schema, **params):
    return VerifierSpec(kind="schema", params={"schema": schema, **params})


def _doubling(levels):
    definitions = {"t0": {"type": "string"}}
    for level in range(1, levels):
        definitions[f"t{level}"] = {"anyOf": [{"$ref": f"#/$defs/t{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": f"#/$defs/t{levels - 1}"}


def _groups():
    for line in (CORPUS / "json_schema_suite" / "required.jsonl").read_text().splitlines():
        group = json.loads(line)
        for draft in group["drafts"]:
            yield draft, group


def _dated(schema, draft):
    """The schema with the draft that the suite's compact form took out."""
    if isinstance(schema, dict) and "$schema" not in schema and draft in META:
        return {"$schema": META[draft], **schema}
    return schema


async def test_every_required_test_of_the_official_suite_is_decided_as_it_says(verifier):
    wrong, num_tests = [], 0
    for draft, group in _groups():
        spec = _spec(_dated(group["schema"], draft), draft=draft)
        for what, instance, is_valid in group["tests"]:
            verdict = await verifier.check(spec, json.dumps(instance), "")
            num_tests += 1
            if not verdict.is_scored or (verdict.reward == 1.0) != is_valid:
                wrong.append((draft, group["file"], group["what"], what, verdict.reason))
    assert wrong == []
    assert num_tests == 4794


@pytest.mark.parametrize("name", ["schema", "text"])
async def test_every_case_of_the_corpus_is_decided_as_it_says(verifier, name):
    wrong = []
    for line in (CORPUS / f"{name}.jsonl").read_text().splitlines():
        case = json.loads(line)
        spec = VerifierSpec(kind=case["kind"], params=case["params"])
        verdict = await verifier.check(spec, case["response"], case["reference"])
        expected = case["expect"]
        is_passed = verdict.is_scored and verdict.reward == 1.0
        if verdict.outcome != expected["outcome"] or is_passed != expected.get("passed", False):
            wrong.append((case["id"], verdict.outcome, verdict.reward, verdict.reason))
    assert wrong == []


async def test_a_schema_without_end_is_killed_at_its_deadline_and_the_next_check_works(verifier):
    started = time.monotonic()
    verdict = await verifier.check(_spec(_doubling(31), time_limit_s=0.3), "1", "")
    assert verdict.outcome is VerdictOutcome.TIMEOUT
    assert time.monotonic() - started < 3.0
    tree = {"properties": {"child": {"$ref": "#"}}, "type": "object"}
    assert (await verifier.check(_spec(tree), '{"child": {"child": {}}}', "")).reward == 1.0


async def test_no_reference_is_ever_fetched(verifier, tmp_path):
    visits = []
    document = tmp_path / "open.json"
    document.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stopping = threading.Event()

        def listen():
            while not stopping.is_set():
                try:
                    visits.append(server.accept()[1])
                except TimeoutError:
                    continue

        listener = threading.Thread(target=listen)
        listener.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema"
        for schema in (
            {"$ref": url},
            {"$ref": f"{url}#/$defs/a"},
            {"$schema": url},
            {"$id": url, "$ref": "other"},
            {"properties": {"a": {"$ref": url}}},
            {"$dynamicRef": url},
            {"$ref": document.as_uri()},
        ):
            verdict = await verifier.check(_spec(schema), "{}", "")
            assert verdict.outcome is VerdictOutcome.ERROR, (schema, verdict)
            assert "invalid task" in verdict.reason
        stopping.set()
        listener.join()
    assert visits == []


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "objekt"}, "invalid task"),
        ({"pattern": "("}, "invalid task"),
        ({"const": float("nan")}, "not JSON"),
        ({"enum": ["x" * 300_000]}, "more than 262144 characters"),
        (json.loads('{"not":' * 200 + "{}" + "}" * 200), "nested more than 128 deep"),
    ],
)
async def test_a_wrong_schema_is_no_reward(verifier, schema, reason):
    verdict = await verifier.check(_spec(schema), "{}", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert reason in verdict.reason


async def test_a_fault_says_where_it_is(verifier):
    schema = {"properties": {"a": {"items": {"type": "string"}}}}
    verdict = await verifier.check(_spec(schema), '{"a": ["x", 1]}', "")
    assert (verdict.reward, verdict.reason) == (0.0, "type at /a/1")


async def test_both_paths_give_the_same_verdicts(verifier):
    """A schema of bounded cost is validated in the service; with a cycle beside it, in a child."""
    bounded = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 0.5}}}
    in_child = {**bounded, "$defs": {"cycle": {"items": {"$ref": "#/$defs/cycle"}}}}
    for document in ('{"n": 1}', '{"n": "1"}', "[]", '{"n": 1, "m": [NaN]}', "{", '{"n": 1.5}'):
        here = await verifier.check(_spec(bounded), document, "")
        there = await verifier.check(_spec(in_child), document, "")
        assert (here.reward, here.reason) == (there.reward, there.reason)
