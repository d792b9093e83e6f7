"""The client of outside verifiers against servers that do what they should not."""

import asyncio
import logging
import os
import socket
import ssl
import time

import pytest
import trustme
from hostile_http import (
    hostile_server,
    in_turn,
    saying,
    scoring,
)
from judging_over_http import LOOPBACK, REQUEST, fails, judge, metric

from rlsd.config import HttpVerifierSection
from rlsd.errors import ConfigError, VerifierError
from rlsd.verifier_client.client import http_verifier
from rlsd.verifier_contract.native import ChatMessage, VerifyRequest
from rlsd.verifier_contract.signature import SignatureRefused, check_signature

# what is asked and what is understood


async def test_a_score_becomes_a_reward():
    async with hostile_server(scoring(0.75)) as server:
        judgement = await judge(server.url)
    assert judgement.reward == 0.75
    assert server.received[0].json["completion"] == "the answer is 9"


async def test_scores_are_mapped_from_the_configured_range_and_clamped():
    before = metric("rlsd_verifier_http_clamped_total")
    async with hostile_server(in_turn(*map(scoring, (0, 10, -10, 1e9, -1e308, 5)))) as server:
        section = {"score_min": -10, "score_max": 10}
        rewards = [(await judge(server.url, **section)).reward for _ in range(6)]
    assert rewards == [0.5, 1.0, 0.0, 1.0, 0.0, 0.75]
    assert metric("rlsd_verifier_http_clamped_total") == before + 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"outcome":"scored","score":NaN}',
        b'{"outcome":"scored","score":Infinity}',
        b'{"outcome":"scored","score":-Infinity}',
        b'{"outcome":"scored","score":1e999}',
        b'{"outcome":"scored","score":1' + b"0" * 400 + b"}",
        b'{"outcome":"scored","score":' + b"9" * 5000 + b"}",
        b'{"outcome":"scored","score":"1"}',
        b'{"outcome":"scored","score":true}',
        b'{"outcome":"scored","score":null}',
        b'{"outcome":"scored","score":[1]}',
        b'{"outcome":"scored"}',
        b'{"outcome":"scored","score":1,"reward":1}',
        b'{"outcome":"scored","score":1,"components":{"a":NaN}}',
        b'{"outcome":"passed","score":1}',
        b'{"score":1}',
        b"1",
        b"[]",
        b"null",
        b"",
        b"score: 1",
        b'{"outcome":"scored","score":1',
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 12_000,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
async def test_an_answer_that_is_not_of_the_contract_is_an_error_after_one_try(body):
    async with hostile_server(saying(body)) as server:
        await fails(server, "outside: not ")
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [201, 204, 302, 400, 401, 403, 404, 409, 422])
async def test_a_refusal_is_an_error_after_one_try(status):
    answer = saying({"outcome": "scored", "score": 1}, status=status)
    async with hostile_server(answer) as server:
        await fails(server, f"status {status}")
    assert len(server.received) == 1


async def test_an_error_that_cannot_pass_is_an_error_after_one_try():
    answer = {"outcome": "error", "retryable": False, "code": "no_rubric", "detail": "x" * 2000}
    async with hostile_server(saying(answer)) as server:
        message = await fails(server, "says error: no_rubric")
    assert len(server.received) == 1
    assert len(message) < 400


async def test_an_error_that_may_pass_is_tried_again():
    answer = {"outcome": "error", "retryable": True, "code": "busy"}
    async with hostile_server(in_turn(saying(answer), scoring(1))) as server:
        assert (await judge(server.url)).reward == 1
    assert len(server.received) == 2


# where it may be


async def test_loopback_is_not_reached_unless_it_is_listed():
    async with hostile_server(scoring(1)) as server:
        await fails(server, "127.0.0.1 is not a public address", allow_cidrs=())
        await fails(server, "not a public address", allow_cidrs=("10.0.0.0/8",))
    assert server.num_connections == 0


async def _with_resolver(monkeypatch, answers):
    async def getaddrinfo(host, port, **_):
        found = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_with_one_forbidden_address_is_not_reached_at_all(monkeypatch):
    async with hostile_server(scoring(1)) as server:
        await _with_resolver(monkeypatch, [["127.0.0.1", "169.254.169.254"]])
        with pytest.raises(VerifierError, match=r"169\.254\.169\.254 is not a public address"):
            await judge(f"http://checks.test:{server.port}/")
    assert server.num_connections == 0


async def test_a_name_that_changes_its_address_is_looked_up_once(monkeypatch):
    answers = [["127.0.0.1"], ["169.254.169.254"], ["169.254.169.254"]]
    async with hostile_server(scoring(1)) as server:
        await _with_resolver(monkeypatch, answers)
        assert (await judge(f"http://checks.test:{server.port}/v1/verify")).reward == 1
    assert len(answers) == 2
    assert server.received[0].headers["host"] == f"checks.test:{server.port}"


async def test_redirects_are_not_followed():
    async with hostile_server(scoring(1)) as target:
        for status in (301, 302, 303, 307, 308):
            answer = saying(b"", status=status, headers=(f"Location: {target.url}",))
            async with hostile_server(answer) as server:
                await fails(server, "redirects are not followed")
    assert target.num_connections == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    async with hostile_server(scoring(0)) as proxy, hostile_server(scoring(1)) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        assert (await judge(server.url)).reward == 1
    assert proxy.num_connections == 0


# who asks whom


def server_tls(authority, name="checks.test"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_names_the_host_and_checks_its_certificate(monkeypatch, authority, ca_file):
    async with hostile_server(scoring(1), tls=server_tls(authority)) as server:
        await _with_resolver(monkeypatch, [["127.0.0.1"]])
        url = f"https://checks.test:{server.port}/"
        assert (await judge(url, ca_file=ca_file)).reward == 1
    assert server.names == ["checks.test"]


@pytest.mark.parametrize("case", ["another name", "unknown authority"])
async def test_a_certificate_that_does_not_fit_is_not_spoken_to(
    monkeypatch, authority, ca_file, case
):
    issuer = trustme.CA() if case == "unknown authority" else authority
    name = "other.test" if case == "another name" else "checks.test"
    async with hostile_server(scoring(1), tls=server_tls(issuer, name)) as server:
        await _with_resolver(monkeypatch, [["127.0.0.1"]])
        with pytest.raises(VerifierError, match="certificate verify failed"):
            await judge(f"https://checks.test:{server.port}/", ca_file=ca_file, retries=0)
    assert server.received == []


async def test_a_client_certificate_is_shown(monkeypatch, authority, ca_file, tmp_path):
    tls = server_tls(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    own = authority.issue_cert("run.test")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    files = {"cert_file": tmp_path / "own.pem", "key_file": tmp_path / "own.pem"}
    async with hostile_server(scoring(1), tls=tls) as server:
        await _with_resolver(monkeypatch, [["127.0.0.1"]] * 2)
        url = f"https://checks.test:{server.port}/"
        with pytest.raises(VerifierError):
            await judge(url, ca_file=ca_file, retries=0)
        assert (await judge(url, ca_file=ca_file, **files)).reward == 1


async def test_bearer_and_signatures_are_sent_and_change_with_their_files(tmp_path):
    token, new, old = (tmp_path / n for n in ("token", "new", "old"))
    token.write_text("first\n")
    new.write_text("whsec_" + "QUJD" * 8)
    old.write_text("an older key of enough bytes")
    section = {"bearer_file": token, "hmac_files": (new, old)}
    async with hostile_server(scoring(1)) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, **section)
        verifier = http_verifier("outside", section)
        await verifier.judge(REQUEST)
        token.write_text("the second one")
        await verifier.judge(REQUEST)
    first, second = server.received
    assert first.headers["authorization"] == "Bearer first"
    assert second.headers["authorization"] == "Bearer the second one"
    for key in (b"ABC" * 8, b"an older key of enough bytes"):
        check_signature([key], first.headers, first.body, now=time.time())
    with pytest.raises(SignatureRefused):
        check_signature([b"x" * 24], first.headers, first.body, now=time.time())
    assert first.headers["webhook-id"] == first.headers["idempotency-key"]


@pytest.mark.parametrize("text", ["", "two\nlines", "größer", "x" * 5])
async def test_a_secret_that_cannot_be_used_is_known_at_the_start_and_not_shown(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text)
    section = HttpVerifierSection(url="https://a.test", hmac_files=(path,))
    with pytest.raises(ConfigError, match=r"verifier\.http\.outside: secret .*key") as caught:
        http_verifier("outside", section)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n", "two\nlines", "größer", "a\tb", "x" * 20_000])
async def test_a_token_that_no_header_can_carry_is_known_at_the_start_and_not_shown(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    section = HttpVerifierSection(url="https://a.test", bearer_file=path)
    with pytest.raises(ConfigError, match=r"verifier\.http\.outside: secret .*token") as caught:
        http_verifier("outside", section)
    assert not text.strip() or text not in str(caught.value)


async def test_a_token_of_the_same_length_is_read_again_too(tmp_path):
    path = tmp_path / "token"
    async with hostile_server(scoring(1)) as server:
        path.write_text("first")
        os.utime(path, (1, 1))
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, bearer_file=path)
        verifier = http_verifier("outside", section)
        path.write_text("other")
        os.utime(path, (2, 2))
        await verifier.judge(REQUEST)
    assert server.received[0].headers["authorization"] == "Bearer other"


async def test_a_secret_that_goes_away_is_an_error_of_the_check(tmp_path):
    path = tmp_path / "token"
    path.write_text("token")
    async with hostile_server(scoring(1)) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, bearer_file=path)
        verifier = http_verifier("outside", section)
        path.unlink()
        with pytest.raises(VerifierError, match="cannot be read"):
            await verifier.judge(REQUEST)


async def test_neither_payload_nor_secrets_are_logged(tmp_path, caplog):
    path = tmp_path / "token"
    path.write_text("s3cret-token")
    caplog.set_level(logging.DEBUG)
    request = VerifyRequest(completion="c0mpletion", reference="r3ference")
    answers = in_turn(saying(b"", status=503), scoring(1))
    async with hostile_server(answers) as server:
        await judge(server.url, request, bearer_file=path)
    for secret in ("s3cret-token", "c0mpletion", "r3ference"):
        assert secret not in caplog.text


async def test_redacted_fields_are_not_sent():
    request = VerifyRequest(
        completion="c",
        messages=[ChatMessage(role="user", content="private words")],
        task={"customer": {"mail": "private@a.test", "plan": "b"}, "private": 1},
    )
    async with hostile_server(scoring(1)) as server:
        fields = ("messages", "task.customer.mail", "task.private", "task.none.at.all")
        await judge(server.url, request, redact=fields)
    assert b"private" not in server.received[0].body
    assert server.received[0].json["task"] == {"customer": {"plan": "b"}}
