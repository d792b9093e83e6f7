"""An object store that fails, and two learners at once: whole versions or none, and plain words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from s3_server import CREDENTIALS, Faults

from rlsd.errors import ConfigError, ServiceError, WeightsError
from rlsd.weights import Probe
from rlsd.weights.bucket import Bucket

PROBE = Probe(token_ids=(1, 2), logprobs=(-0.5,))


def publish(store, version, content=b"weights", *, before=lambda: None):
    def save(folder):
        (folder / "config.json").write_bytes(b"{}")
        (folder / "model.safetensors").write_bytes(content)
        before()

    store.publish(version, step=version, probe=PROBE, save=save)


def content_of(fetched):
    return (fetched.folder / "model.safetensors").read_bytes()


def asked(remote):
    return list(remote.server.faults.requests)


def refusing(num, status, code, *, of=""):
    """Refuse the next `num` requests whose path holds `of`."""
    left = [num]

    def refuse(method, path):
        if of not in path or not left[0]:
            return None
        left[0] -= 1
        return status, code

    return Faults(refuse=refuse)


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable")]
)
def test_errors_that_pass_are_waited_out(remote, tmp_path, status, code):
    store = remote.store(tmp_path / "learner")
    remote.server.faults = refusing(5, status, code)  # more than the SDK tries
    publish(store, 1)
    remote.server.faults = refusing(5, status, code)
    assert content_of(remote.store(tmp_path / "reader").fetch(1)) == b"weights"


def test_a_store_that_stays_broken_is_an_error_within_the_deadline(remote, tmp_path):
    publish(remote.store(tmp_path / "learner"), 1)
    remote.server.faults = refusing(10**6, 500, "InternalError")
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"cannot read .*MANIFEST.*InternalError"):
        remote.store(tmp_path / "reader", timeout_s=3).fetch(1)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("what", ["MANIFEST.json", "model.safetensors"])
def test_a_trickling_answer_is_given_up_at_the_deadline(remote, tmp_path, what):
    publish(remote.store(tmp_path / "learner"), 1, b"w" * 200)
    remote.server.faults.trickle_s = lambda path: 0.1 * path.endswith(what)
    started = time.monotonic()
    with pytest.raises(ServiceError, match=f"cannot read .*{what}: no answer in time"):
        remote.store(tmp_path / "reader", timeout_s=4).fetch(1)
    assert time.monotonic() - started < 10
    assert not list((tmp_path / "reader").glob("*"))


def test_while_the_store_is_away_fetching_waits_and_what_was_fetched_stays(remote, tmp_path):
    learner, reader = remote.store(tmp_path / "learner"), remote.store(tmp_path / "reader")
    publish(learner, 1)
    held = reader.fetch(1)
    publish(learner, 2)
    remote.server.go_away()
    with pytest.raises(ServiceError, match="cannot list"):
        reader.latest()
    assert content_of(held) == b"weights"
    back = threading.Timer(2.0, remote.server.come_back)
    back.start()
    assert reader.fetch(2).manifest.version == 2
    back.join()


def test_a_learner_that_publishes_waits_for_a_store_that_is_away(remote, tmp_path):
    remote.server.go_away()
    back = threading.Timer(2.0, remote.server.come_back)
    back.start()
    publish(remote.store(tmp_path), 1)
    back.join()
    assert remote.store(tmp_path).verify(1).version == 1


def test_a_learner_killed_while_it_publishes_leaves_nothing_to_see(remote, tmp_path):
    publish(remote.store(tmp_path), 1)
    remote.server.faults.delay_s = lambda method, path: (
        60.0 * (method == "PUT" and path.endswith("model.safetensors"))
    )
    script = f"""
from pathlib import Path
from rlsd.weights import Probe
from rlsd.weights.bucket import Bucket
from rlsd.weights.s3 import S3Store
store = S3Store(
    Bucket("weights", endpoint_url={remote.server.url!r}), "{remote.prefix}/run", "run",
    Path({str(tmp_path)!r}), timeout_s=60,
)
def save(folder):
    (folder / "config.json").write_bytes(b"other")
    (folder / "model.safetensors").write_bytes(b"other")
store.publish(2, step=2, probe=Probe(token_ids=(1, 2), logprobs=(-0.5,)), save=save)
"""
    child = subprocess.Popen([sys.executable, "-c", script], env=os.environ | CREDENTIALS)
    deadline = time.monotonic() + 60
    while not any("v00000002" in p and p.endswith("model.safetensors") for _, p in asked(remote)):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert any("v00000002" in key for key in remote.all_keys())
    store = remote.store(tmp_path)
    assert store.versions() == [1]
    with pytest.raises(WeightsError, match="no readable manifest"):
        store.fetch(2)
    remote.server.faults = Faults()
    assert list(tmp_path.glob(".aside-*"))  # what the killed one was writing
    publish(store, 2)
    assert content_of(remote.store(tmp_path / "reader").fetch(2)) == b"weights"
    assert not list(tmp_path.glob(".aside-*"))
    publish(store, 3)
    store.retain({3})
    assert {key.split("/")[2] for key in remote.all_keys()} == {"v00000003"}


def test_of_two_learners_that_publish_a_version_the_first_one_counts(remote, tmp_path):
    """The second, a zombie, was stopped in the middle: nothing it does then changes anything."""
    zombie, learner = remote.store(tmp_path / "a"), remote.store(tmp_path / "b")
    with pytest.raises(WeightsError, match="is published with other content, by another learner"):
        publish(zombie, 1, b"zombie", before=lambda: publish(learner, 1, b"learner"))
    assert content_of(remote.store(tmp_path / "reader").fetch(1)) == b"learner"


def test_the_manifest_itself_is_written_once_only(remote, tmp_path):
    """Also when both have looked before either wrote."""
    first, second = remote.store(tmp_path / "a"), remote.store(tmp_path / "b")
    is_first = []

    def overtaken(method, path):
        if method == "PUT" and path.endswith("model.safetensors") and not is_first:
            is_first.append(True)
            publish(second, 1, b"second")
        return 0.0

    remote.server.faults.delay_s = overtaken
    with pytest.raises(WeightsError, match="is published with other content"):
        publish(first, 1, b"first")
    assert content_of(remote.store(tmp_path / "reader").fetch(1)) == b"second"


def test_a_manifest_whose_answer_was_lost_is_our_own(remote, tmp_path):
    client, lost = remote.server.client(), []
    publish(remote.store(tmp_path / "x"), 7)
    [key] = [k for k in remote.all_keys() if k.endswith("MANIFEST.json")]
    content = client.get_object(Bucket="weights", Key=key)["Body"].read()
    client.delete_object(Bucket="weights", Key=key)

    def refuse(method, path):
        if method == "PUT" and path.endswith("MANIFEST.json") and not lost:
            lost.append(True)
            client.put_object(Bucket="weights", Key=key, Body=content)  # it arrives all the same
            return 500, "InternalError"
        return None

    remote.server.faults.refuse = refuse
    publish(remote.store(tmp_path / "y"), 7)
    assert lost
    assert remote.store(tmp_path / "y").verify(7).version == 7


def test_a_store_that_ignores_the_condition_is_told_of(remote, tmp_path, caplog):
    bucket = Bucket.__new__(Bucket)
    bucket.__dict__.update(remote.bucket.__dict__)

    def write_new(key, content, *, deadline=None):
        remote.server.client().put_object(Bucket="weights", Key=key, Body=content)
        return True

    bucket.write_new = write_new
    store = remote.store(tmp_path)
    store._bucket = bucket
    publish(store, 1)
    publish(store, 2)
    assert [r.message for r in caplog.records].count("weight store overwrites") == 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "access denied.*allow s3:ListBucket"),
        (403, "InvalidAccessKeyId", "access denied"),
        (404, "NoSuchBucket", "there is no such bucket; make it, or mend weights.url"),
        (400, "AuthorizationHeaderMalformed", "in another region; set weights.region"),
        (501, "NotImplemented", "NotImplemented"),
    ],
)
def test_a_store_that_refuses_us_is_a_wrong_configuration(remote, tmp_path, status, code, words):
    remote.server.faults = refusing(10**6, status, code)
    store = remote.store(tmp_path)
    started = time.monotonic()
    for ask in (store.latest, lambda: store.fetch(1), lambda: publish(store, 1)):
        with pytest.raises(ConfigError, match=words) as found:
            ask()
        assert "\n" not in str(found.value)
    assert time.monotonic() - started < 10  # nothing is waited for


def test_without_credentials_the_remedy_is_named(remote, tmp_path, monkeypatch):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bucket = Bucket("weights", endpoint_url=remote.server.url)
    with pytest.raises(ConfigError, match="give the service a role, or AWS_CONFIG_FILE"):
        bucket.keys("v")


def test_credentials_come_from_a_file_that_the_environment_names(remote, tmp_path, monkeypatch):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    keys = "[default]\naws_access_key_id = k\naws_secret_access_key = s\n"
    (tmp_path / "config").write_text(keys)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bucket = Bucket("weights", endpoint_url=remote.server.url, region="us-east-1")
    assert bucket.keys("nothing-there") == []


def test_a_large_file_goes_and_comes_in_parts(remote, tmp_path):
    content = os.urandom(40 * 2**20)
    publish(remote.store(tmp_path / "learner"), 1, content)
    parts = [p for m, p in asked(remote) if m == "PUT" and p.endswith("model.safetensors")]
    assert len(parts) == 3
    fetched = remote.store(tmp_path / "reader").fetch(1)
    assert content_of(fetched) == content
    assert fetched.num_bytes == len(content) + 2
    assert remote.store(tmp_path / "learner").verify(1).version == 1
