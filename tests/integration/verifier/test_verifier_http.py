import httpx
import pytest

from services.verifier.app import MAX_ITEMS, create_app

pytestmark = pytest.mark.asyncio(loop_scope="session")

RIGHT = {"kind": "exact", "params": {"after": "#"}, "completion": "x # 9", "reference": "9"}


@pytest.fixture
async def client(verifier):
    transport = httpx.ASGITransport(app=create_app(verifier, max_body_bytes=1_000_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://verifier") as opened:
        yield opened


async def test_a_batch_comes_back_in_order_with_three_valued_verdicts(client):
    items = [
        RIGHT,
        {"kind": "math", "completion": r"\boxed{3}", "reference": "4"},
        {"kind": "math", "completion": r"\boxed{(99999^{99999})^{99999}}", "reference": "4"},
        {"kind": "sorcery", "completion": "", "reference": ""},
        {"kind": "choice", "params": {"choices": 3}, "completion": "", "reference": ""},
    ]
    response = await client.post("/v1/verify", json={"items": items}, timeout=20)
    assert response.status_code == 200
    verdicts = response.json()["verdicts"]
    assert [(v["outcome"], v["reward"]) for v in verdicts] == [
        ("scored", 1.0),
        ("scored", 0.0),
        ("timeout", None),
        ("error", None),
        ("error", None),
    ]
    assert all(
        set(v) == {"outcome", "reward", "reason", "duration_s", "isolation"} for v in verdicts
    )
    assert "unknown verifier kind 'sorcery'" in verdicts[3]["reason"]
    assert "choices: input should be a valid list" in verdicts[4]["reason"]


async def test_half_a_surrogate_pair_is_refused(client):
    body = rb'{"items": [{"kind": "exact", "completion": "\ud800", "reference": "\ud800"}]}'
    response = await client.post("/v1/verify", content=body)
    assert response.status_code == 422


async def test_a_key_with_half_a_surrogate_pair_is_explained(client):
    response = await client.post("/v1/verify", content=rb'{"items": [], "\ud800": 1}')
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ({"items": []}, "body.items", "at least 1 item"),
        ({"items": [RIGHT] * (MAX_ITEMS + 1)}, "body.items", f"at most {MAX_ITEMS} items"),
        ({"items": [RIGHT | {"answer": "9"}]}, "body.items.0.answer", "not permitted"),
        ({"items": [{"kind": "exact"}]}, "body.items.0.completion", "required"),
    ],
)
async def test_a_wrong_body_is_explained_and_not_sent_back(client, body, where, what):
    response = await client.post("/v1/verify", json=body)
    assert response.status_code == 422
    detail = response.json()["detail"][0]
    assert detail["where"] == where
    assert what in detail["what"]
    assert set(detail) == {"where", "what"}


async def test_a_declared_body_over_the_limit_is_refused(client):
    item = RIGHT | {"completion": "x" * 1_000_000}
    response = await client.post("/v1/verify", json={"items": [item]})
    assert response.status_code == 413
    assert "send fewer items" in response.json()["detail"]


async def test_an_undeclared_body_over_the_limit_is_refused(client):
    async def endless():
        for _ in range(100):
            yield b" " * 100_000
        pytest.fail("the whole body was read")

    response = await client.post("/v1/verify", content=endless())
    assert response.status_code == 413


async def test_health_metrics_and_openapi_are_served(client):
    await client.post("/v1/verify", json={"items": [RIGHT]})
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    metrics = (await client.get("/metrics")).text
    assert 'rlsd_verifier_verdicts_total{kind="exact",outcome="pass"}' in metrics
    assert 'rlsd_verifier_check_duration_seconds_bucket{kind="exact"' in metrics
    schema = (await client.get("/openapi.json")).json()
    body = schema["paths"]["/v1/verify"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        response = await client.post("/v1/verify", json=example["value"])
        assert {v["outcome"] for v in response.json()["verdicts"]} == {"scored"}


async def test_metrics_come_as_openmetrics_where_that_is_asked_for(client):
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = await client.get("/metrics", headers=wanted)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    plain = await client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert "# EOF" not in plain.text
