"""The service that the SDK makes of a function."""

import asyncio
import base64
import math
import time

import httpx
import pytest

from rlsd.errors import ConfigError
from rlsd.verifier_contract.signature import sign
from rlsd.verifier_sdk import CannotDecide, Score, Submission, create_app
from rlsd.verifier_sdk.app import MAX_BODY_BYTES
from rlsd.verifier_sdk.idempotency import Answers

BODY = {"schema": "rlsd.verify/v1", "completion": "42", "reference": "42"}


def equal(submission: Submission) -> float:
    return float(submission.completion == submission.reference)


def client_of(check=equal, **options):
    app = create_app(check, name="equal", version="3", **options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://verifier")


async def ask(client, body=BODY, **headers):
    return await client.post("/v1/verify", json=body, headers=headers)


async def test_a_function_is_a_verifier():
    async with client_of() as client:
        response = await ask(client)
        assert response.json() == {
            "outcome": "scored",
            "score": 1.0,
            "components": {},
            "passed": None,
            "detail": "",
            "verifier": {"name": "equal", "version": "3"},
        }
        assert (await ask(client, BODY | {"completion": "41"})).json()["score"] == 0.0


async def test_words_and_components_go_with_a_score():
    async def check(submission):
        return Score(score=-3, detail="d" * 5000, components={"form": 1})

    async with client_of(check) as client:
        answer = (await ask(client)).json()
    assert (answer["score"], answer["components"], len(answer["detail"])) == (
        -3.0,
        {"form": 1.0},
        2048,
    )


@pytest.mark.parametrize("found", [math.nan, math.inf, None, "1", [1], Score(score=math.nan)])
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_is_no_number_is_an_error_and_never_0(found, is_async):
    async def later(submission):
        return found

    async with client_of(later if is_async else lambda _: found) as client:
        answer = (await ask(client)).json()
    assert (answer["outcome"], answer["retryable"]) == ("error", False)


async def test_an_exception_is_an_error_that_tells_nothing_of_the_submission():
    def check(submission):
        raise RuntimeError(submission.completion)

    async with client_of(check) as client:
        response = await ask(client, BODY | {"completion": "private"})
    assert response.status_code == 200
    assert response.json()["code"] == "RuntimeError"
    assert "private" not in response.text


async def test_a_check_that_cannot_decide_says_whether_to_come_back():
    def check(submission):
        raise CannotDecide("index_down", "rebuilding", retryable=True)

    async with client_of(check) as client:
        assert (await ask(client)).json() == {
            "outcome": "error",
            "retryable": True,
            "code": "index_down",
            "detail": "rebuilding",
        }


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_deadline_of_a_request_is_kept(is_async):
    async def sleeps(submission):
        await asyncio.sleep(5)
        return 1.0

    def blocks(submission):
        time.sleep(0.5)
        return 1.0

    async with client_of(sleeps if is_async else blocks) as client:
        started = time.monotonic()
        answer = (await ask(client, BODY | {"deadline_ms": 50})).json()
        assert time.monotonic() - started < 0.4
    assert (answer["outcome"], answer["code"], answer["retryable"]) == ("error", "deadline", True)


async def test_no_more_checks_run_at_once_than_allowed():
    now = most = 0

    async def check(submission):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return 1.0

    async with client_of(check, max_concurrency=3) as client:
        await asyncio.gather(*(ask(client) for _ in range(12)))
    assert most == 3


# the same key, the same answer


async def test_one_key_is_one_answer_also_while_the_first_is_in_work():
    calls = 0

    async def check(submission):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        return float(calls)

    async with client_of(check) as client:
        key = {"Idempotency-Key": "a"}
        together = await asyncio.gather(*(ask(client, **key) for _ in range(5)))
        later = await ask(client, BODY | {"deadline_ms": 777}, **key)
        other = await ask(client, **{"Idempotency-Key": "b"})
        none = await ask(client)
    assert [r.json()["score"] for r in (*together, later)] == [1.0] * 6
    assert (other.json()["score"], none.json()["score"]) == (2.0, 3.0)


async def test_a_key_with_another_request_is_refused():
    async with client_of() as client:
        await ask(client, **{"Idempotency-Key": "a"})
        other = await ask(client, BODY | {"completion": "41"}, **{"Idempotency-Key": "a"})
    assert other.status_code == 409


async def test_an_error_that_may_pass_is_not_remembered_and_a_final_one_is():
    calls = 0

    def check(submission):
        nonlocal calls
        calls += 1
        raise CannotDecide("x", retryable=submission.reference == "retryable")

    async with client_of(check) as client:
        for reference, total in (("retryable", 3), ("final", 4)):
            for _ in range(3):
                await ask(client, BODY | {"reference": reference}, **{"Idempotency-Key": reference})
            assert calls == total


async def test_only_so_many_answers_are_remembered():
    answers = Answers(size=10)
    calls = 0

    async def judge(submission):
        nonlocal calls
        calls += 1
        from rlsd.verifier_contract.native import ScoredAnswer

        return ScoredAnswer(score=0.0)

    submission = Submission(completion="")
    for n in range(100):
        await answers.get(str(n), submission, judge)
    assert len(answers._known) == 10
    await answers.get("99", submission, judge)
    assert calls == 100
    await answers.get("0", submission, judge)
    assert calls == 101


# who may ask, and what


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("whsec_" + base64.b64encode(b"k" * 24).decode())
    return path


async def test_a_bearer_token_is_needed_where_there_is_one(tmp_path):
    path = tmp_path / "token"
    path.write_text("right\n")
    async with client_of(bearer_file=path) as client:
        for given in ("", "right", "Bearer wrong", "Bearer right2", "bearer right"):
            assert (await ask(client, Authorization=given)).status_code == 401
        assert (await ask(client)).status_code == 401
        assert (await ask(client, Authorization="Bearer right")).status_code == 200
        path.write_text("changed")
        assert (await ask(client, Authorization="Bearer right")).status_code == 401
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("key", "shift", "status"),
    [
        (b"k" * 24, 0, 200),
        (b"k" * 24, -290, 200),
        (b"k" * 24, -310, 401),
        (b"k" * 24, 310, 401),
        (b"x" * 24, 0, 401),
    ],
)
async def test_a_signature_is_needed_where_there_is_a_key(key_file, key, shift, status):
    body = b'{"completion": "42", "reference": "42"}'
    headers = sign([key], message_id="m", timestamp=int(time.time()) + shift, body=body)
    headers["Content-Type"] = "application/json"
    async with client_of(hmac_files=[key_file]) as client:
        response = await client.post("/v1/verify", content=body, headers=headers)
        assert response.status_code == status
        changed = await client.post("/v1/verify", content=body + b" ", headers=headers)
        assert changed.status_code == 401


def test_a_secret_that_is_not_there_does_not_start(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        create_app(equal, name="x", bearer_file=tmp_path / "none")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"completion": 42}',
        b'{"reference": "42"}',
        b'{"completion": "a", "extra": 1}',
        b'{"completion": "a", "schema": "rlsd.verify/v2"}',
        b'{"completion": "a", "deadline_ms": "5"}',
        b"[" * 100_000,
        b'{"completion": "a", "task": ' + b'{"a":' * 50_000,
        b"\xff\xfe",
    ],
    ids=lambda b: b[:30].decode("latin-1"),
)
async def test_a_request_that_is_not_of_the_contract_is_refused(body):
    async with client_of() as client:
        response = await client.post(
            "/v1/verify", content=body, headers={"Content-Type": "application/json"}
        )
        assert 400 <= response.status_code < 500
        assert (await ask(client)).status_code == 200


async def test_a_large_body_is_refused():
    async with client_of() as client:
        response = await ask(client, BODY | {"completion": "x" * MAX_BODY_BYTES})
    assert response.status_code == 413


async def test_health_metrics_and_schema_are_served():
    async with client_of() as client:
        await ask(client)
        assert (await client.get("/healthz")).json()["status"] == "ok"
        metrics = (await client.get("/metrics")).text
        assert 'rlsd_sdk_answers_total{outcome="scored"} 1.0' in metrics
        schema = (await client.get("/openapi.json")).json()
    assert {"VerifyRequest", "ScoredAnswer", "ErrorAnswer"} <= set(schema["components"]["schemas"])
