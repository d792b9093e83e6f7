"""Whatever a server does or fails to do, the service gets one line of error, in time."""

import asyncio
import contextlib
import json
import time

import numpy as np
import pytest
from hostile_http import (
    HostileServer,
    hanging_up,
    hostile_server,
    in_turn,
    response,
    saying,
    silent,
)
from published_policy import BASE, Policy
from sglang_stand_in import sglang_stand_in

from rlsd.errors import ConfigError, EngineError, UnfitError, WeightsError
from rlsd.inference.choice import open_engine
from rlsd.inference.engine import SamplingRequest, ScoringRequest
from rlsd.inference.versions import HeldWeights
from rlsd.local.processes import free_ports
from rlsd.weights import FolderStore

DRAW = SamplingRequest(prompt_ids=(5, 6), seed=1, temperature=1.0, top_p=1.0, max_tokens=2)
SCORE = ScoringRequest(prefix_ids=(5, 6), completion_ids=(7, 8))
LABELS = [{"version": "default", "start": 0, "end": 2}]


def opened(engine, url, *, timeout_s=5.0, key_file=None):
    return open_engine(
        engine,
        BASE,
        dtype="float32",
        max_batch=8,
        threads=1,
        arguments={},
        url=url,
        key_file=key_file,
        timeout_s=timeout_s,
    )


@contextlib.asynccontextmanager
async def reached(kind, server, *, timeout_s=5.0):
    """Past the greeting."""
    engine = opened(kind, server.url.removesuffix("/v1/verify"), timeout_s=timeout_s)
    async with contextlib.AsyncExitStack() as stack:
        await engine._connection.__aenter__()
        stack.push_async_exit(engine.__aexit__)
        yield engine


def vllm_says(*, labels=LABELS, finish="length", logprobs=(-1.0, -2.0), tokens=(7, 8), **more):
    content = [{"token_id": t, "logprob": p} for t, p in zip(tokens, logprobs, strict=False)]
    choice = {
        "finish_reason": finish,
        "token_ids": list(tokens),
        "logprobs": {"content": content},
        "weight_versions": labels,
    }
    return {"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": 0}}, **more}


def sglang_says(*, labels=LABELS, finish="length", logprobs=(-1.0, -2.0), tokens=(7, 8), **more):
    found = [[p, t, None] for t, p in zip(tokens, logprobs, strict=False)]
    meta = {
        "finish_reason": {"type": finish},
        "output_token_logprobs": found,
        "weight_versions": labels,
        **more,
    }
    return {"meta_info": meta}


SAYS = {"vllm": vllm_says, "sglang": sglang_says}
both = pytest.mark.parametrize("kind", ["vllm", "sglang"])


async def drip(_, writer):
    """A byte a moment, for ever."""
    writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def cut(_, writer):
    writer.write(response(b'{"meta', length=500))
    writer.close()


@both
async def test_a_healthy_answer_is_taken(kind):
    async with hostile_server(saying(SAYS[kind]())) as server, reached(kind, server) as engine:
        sample = await engine.sample(DRAW)
    assert sample.token_ids.tolist() == [7, 8]
    np.testing.assert_allclose(sample.logprobs, [-1, -2])
    assert [(s.version, s.start, s.end) for s in sample.spans] == [(-1, 0, 2)]


@both
@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (saying({"error": {"message": "out of memory"}}, status=500), "HTTP 500: out of memory"),
        (saying({"error": "Unauthorized"}, status=401), "engine_key_file must hold"),
        (saying(b"<html>busy</html>", status=503), "HTTP 503: <html>busy</html>"),
        (saying({}, status=302, headers=("Location: /elsewhere",)), "HTTP 302"),
        (saying(b"\xff\xfe garbage"), "not the answer of such a server"),
        (saying(b"[" * 50_000), "not the answer of such a server"),
        (saying({"choices": [], "meta_info": None}), "not the answer of such a server"),
        (saying(b" " * 200_000), "an answer of more than"),
        (saying(b"xx", headers=("Content-Encoding: gzip",)), "not the answer of such a server"),
        (hanging_up, "no whole answer"),
        (cut, "no whole answer"),
        (silent, "no answer within 0.5 s"),
        (drip, "no answer within 0.5 s"),
    ],
)
async def test_a_server_that_fails_is_an_engine_error_in_time(kind, respond, message):
    async with (
        hostile_server(respond) as server,
        reached(kind, server, timeout_s=0.5) as engine,
    ):
        started = time.monotonic()
        for call in (engine.sample(DRAW), engine.score(SCORE)):
            with pytest.raises(EngineError, match=message) as caught:
                await call
            assert "\n" not in str(caught.value)
            assert f"http://127.0.0.1:{server.port}" in str(caught.value)
        assert time.monotonic() - started < 4


@both
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"logprobs": (-1.0, float("nan"))}, "not the answer"),
        ({"logprobs": (-1.0, None)}, "not the answer|log-probs of 1 tokens"),
        ({"tokens": (7, -8)}, "not the answer"),
        ({"tokens": (7, 2**40)}, "not the answer"),
        ({"tokens": (), "logprobs": (), "labels": []}, "log-probs"),
        ({"finish": "abort"}, "ended a request before it was complete"),
        ({"finish": "whim"}, "not the answer"),
        ({"labels": []}, "nothing of weight versions"),
        ({"labels": [{"version": "default", "start": 0, "end": 1}]}, "of 1 tokens, not 2"),
        ({"labels": [{"version": "default", "start": 1, "end": 2}]}, "with gaps"),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_engine_error(kind, said, message):
    async with hostile_server(saying(SAYS[kind](**said))) as server, reached(kind, server) as e:
        with pytest.raises(EngineError, match=message):
            await e.sample(DRAW)


async def test_log_probs_of_other_tokens_than_were_drawn_are_an_engine_error():
    said = vllm_says()
    said["choices"][0]["logprobs"]["content"][1]["token_id"] = 9
    async with hostile_server(saying(said)) as server, reached("vllm", server) as engine:
        with pytest.raises(EngineError, match="log-probs for 2 tokens"):
            await engine.sample(DRAW)


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        ("vllm", vllm_says(labels=LABELS[:1]), "of 2 tokens, not 1"),
        ("vllm", vllm_says(usage={}, labels=[LABELS[0] | {"end": 1}]), "enable-prompt-tokens-de"),
        ("vllm", vllm_says(labels=[LABELS[0] | {"end": 1}]), "scores of 0 tokens, not of 2"),
        (
            "vllm",
            vllm_says(
                labels=[LABELS[0] | {"end": 1}],
                prompt_logprobs=[
                    None,
                    {"6": {"logprob": -1}},
                    {"7": {"logprob": -1}},
                    {"9": {"logprob": -1}},
                ],
            ),
            "scores of 1 tokens, not of 2",
        ),
        (
            "sglang",
            sglang_says(labels=[LABELS[0] | {"end": 1}], input_token_logprobs=[[None, 6, None]]),
            "scores of 0 tokens, not of 2",
        ),
    ],
)
async def test_scores_that_are_not_whole_are_an_engine_error(kind, said, message):
    async with hostile_server(saying(said)) as server, reached(kind, server) as engine:
        with pytest.raises(EngineError, match=message):
            await engine.score(SCORE)


@both
async def test_nobody_at_the_address_is_said_with_the_remedy(kind):
    [port] = free_ports(1)
    server = HostileServer(silent, port=port)
    async with reached(kind, server) as engine:
        with pytest.raises(
            EngineError,
            match=rf"http://127.0.0.1:{port} cannot be reached .*; start the server, or correct en",
        ):
            await engine.sample(DRAW)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h", "http://", "http://a:b@h", "http://h:x"]
)
def test_an_address_that_can_be_none_is_a_config_error(url):
    with pytest.raises(ConfigError, match="engine_url") as caught:
        opened("sglang", url)
    assert "a:b" not in str(caught.value)


async def test_no_more_requests_are_sent_than_may_be_at_once():
    at_once, most = 0, 0

    async def slow(_, writer):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        writer.write(response(json.dumps(sglang_says()).encode()))

    async with hostile_server(slow) as server, reached("sglang", server) as engine:
        await asyncio.gather(*(engine.sample(DRAW) for _ in range(40)))
    assert most == 8


async def test_no_request_is_sent_on_a_connection_that_the_server_may_be_closing():
    """It closes each one a moment after its answer, as servers do with idle connections."""

    async def close_later(_, writer):
        writer.write(response(json.dumps(sglang_says()).encode()))
        asyncio.get_running_loop().call_later(0.02, writer.transport.abort)

    async with hostile_server(close_later) as server, reached("sglang", server) as engine:
        for _ in range(10):
            await engine.sample(DRAW)
            time.sleep(0.03)  # noqa: ASYNC251  this service is busy, and does not see it closing
    assert server.num_connections == 10


@both
async def test_a_refused_load_still_lets_the_server_go_on(kind, tmp_path):
    """Also when the connection breaks in the middle."""

    async def respond(received, writer):
        if "rpc" in received.target or "from_disk" in received.target:
            writer.close()
        else:
            writer.write(response(b"{}"))

    async with hostile_server(respond) as server, reached(kind, server) as engine:
        with pytest.raises(WeightsError, match=f"weights {tmp_path}: the server did not take them"):
            await engine.install(tmp_path, 1)
    assert server.received[-1].target in ("/resume", "/continue_generation")


async def test_a_server_that_does_not_hear_go_on_is_told_again(tmp_path):
    answers = in_turn(saying({}), saying({}), hanging_up, saying({}))
    async with hostile_server(answers) as server, reached("sglang", server) as engine:
        await engine.install(tmp_path, 1)
    assert [r.target for r in server.received][2:] == ["/continue_generation"] * 2


async def test_vllm_without_its_development_routes_says_how_to_have_them(tmp_path):
    not_found = saying({"detail": "Not Found"}, status=404)
    async with hostile_server(not_found) as server, reached("vllm", server) as engine:
        with pytest.raises(WeightsError, match="VLLM_SERVER_DEV_MODE=1"):
            await engine.install(tmp_path, 1)


@pytest.fixture
def policy(tmp_path):
    return Policy(FolderStore(tmp_path / "weights", "run"))


async def installed(engine, policy):
    weights = HeldWeights(engine, policy.store, tolerance=1e-3)
    policy.publish()
    await weights.hold(await weights.newest(policy.version))
    return weights


async def test_a_server_that_was_restarted_without_our_weights_makes_the_service_unfit(policy):
    async with sglang_stand_in(BASE) as stand_in, opened("sglang", stand_in.url) as engine:
        await installed(engine, policy)
        stand_in.restart(BASE)
        for call in (engine.sample(DRAW), engine.score(SCORE)):
            with pytest.raises(UnfitError, match="did not install last: the server was restarted"):
                await call


async def test_two_services_that_share_a_server_are_told(policy):
    async with (
        sglang_stand_in(BASE) as stand_in,
        opened("sglang", stand_in.url) as engine,
        opened("sglang", stand_in.url) as other,
    ):
        await installed(engine, policy)
        await installed(other, policy)
        with pytest.raises(UnfitError, match="another service uses it"):
            await engine.score(SCORE)


async def test_a_server_that_keeps_its_old_weights_is_caught_by_the_probe(policy):
    async with sglang_stand_in(BASE) as stand_in, opened("sglang", stand_in.url) as engine:
        weights = await installed(engine, policy)
        stand_in.skips_loading = True
        policy.publish()
        with pytest.raises(UnfitError, match="log-probs"):
            await weights.hold(await weights.newest(1))


async def test_a_server_whose_log_probs_are_from_before_temperature_is_refused():
    async with sglang_stand_in(BASE) as stand_in:
        stand_in.gives_original_logprobs = True
        with pytest.raises(
            ConfigError, match=r"before temperature.*SGLANG_RETURN_ORIGINAL_LOGPROB"
        ):
            async with opened("sglang", stand_in.url):
                pass


async def test_a_server_that_does_not_heed_seeds_is_used_and_that_is_said(caplog):
    async with sglang_stand_in(BASE) as stand_in:
        stand_in.is_deterministic = False
        async with opened("sglang", stand_in.url) as engine:
            assert len((await engine.sample(DRAW)).token_ids)
    assert "does not heed seeds" in caplog.text


async def test_a_server_that_was_left_paused_goes_on():
    async with sglang_stand_in(BASE) as stand_in:
        await stand_in.on_pause({"mode": "in_place"})
        async with opened("sglang", stand_in.url):
            assert not stand_in.is_paused


async def test_the_key_is_read_from_its_file(tmp_path):
    key = tmp_path / "key"
    key.write_text("secret\n")
    async with sglang_stand_in(BASE) as stand_in:
        stand_in.key = "Bearer secret"
        async with opened("sglang", stand_in.url, key_file=key):
            pass
        with pytest.raises(EngineError, match="HTTP 401; engine_key_file must hold") as caught:
            async with opened("sglang", stand_in.url):
                pass
        assert "secret" not in str(caught.value)


async def test_a_server_that_is_still_starting_is_waited_for(monkeypatch):
    monkeypatch.setattr("rlsd.inference.server.connection._LOOK_EVERY_S", 0.01)
    starting = saying({}, status=503)
    async with hostile_server(in_turn(hanging_up, starting, saying({}))) as server:
        async with reached("vllm", server) as engine:
            await engine._connection.until_up("/health")
        assert len(server.received) == 3


async def test_a_server_that_never_comes_is_given_up(monkeypatch):
    monkeypatch.setattr("rlsd.inference.server.connection._LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("rlsd.inference.server.connection._START_TIMEOUT_S", 0.2)
    async with hostile_server(saying({}, status=503)) as server:
        with pytest.raises(EngineError, match="HTTP 503"):
            async with opened("vllm", server.url):
                pass
