"""Calls of one S3 bucket: each ends within a deadline, and what fails is one of our errors.

Short failures (timeouts, 5xx, throttling) are tried again by the SDK, a few times for each request.
A call with a deadline is then made anew until it passes, and the log says that the store is away;
one without is for a moment, and its caller asks again.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from s3transfer.exceptions import RetriesExceededError
from s3transfer.subscribers import BaseSubscriber

from rlsd.errors import ConfigError, RlsdError, ServiceError, WeightsError

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 30.0
_ATTEMPTS = 3
"""Of one request, before the call is made anew."""
_QUICK_S = 60.0
"""For a call that nobody gave a deadline: a listing, the deletion of an object."""
_MIB = 2**20
_PART_BYTES = 16 * _MIB
_PARALLEL = 8
_CHUNK_BYTES = _MIB // 16
"""Read at once; after each, a transfer whose deadline has passed is given up."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
_AWAY_STATUS = (408, 409, 425, 429)
"""Beside 5xx: what is answered otherwise a little later."""
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
_CAUSES = (ClientError, BotoCoreError, RetriesExceededError, TimeoutError)


class Bucket:
    """One bucket; any thread may call."""

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str = "",
        region: str = "",
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        """Remember the settings; nothing is asked yet.

        Args:
            endpoint_url: of a store that is not Amazon's.
            pulse: called as bytes move, and once in each pause.
        """
        self._name = name
        self._at = f"s3://{name}" + (f" at {endpoint_url}" if endpoint_url else "")
        self._pulse = pulse
        try:
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint_url or None,
                region_name=region or None,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                    retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                    max_pool_connections=_PARALLEL + 2,
                    # A store that is not Amazon's need not have a host name for each bucket.
                    s3={"addressing_style": "path"} if endpoint_url else None,
                ),
            )
        except (BotoCoreError, ValueError) as cause:
            raise ConfigError(f"weights.url {self._at}: {cause}") from cause

    def url(self, key: str) -> str:
        """As people write it."""
        return f"s3://{self._name}/{key}"

    def keys(self, prefix: str, *, deadline: float | None = None) -> list[str]:
        """Keys that begin with `prefix`, in order."""

        def call() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._name, Prefix=prefix
            )
            return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

        return self._insist(f"list {prefix}", call, deadline)

    def read(self, key: str, *, deadline: float | None = None) -> bytes | None:
        """A small object; None when there is none."""

        def call() -> bytes | None:
            try:
                answer = self._client.get_object(Bucket=self._name, Key=key)
            except self._client.exceptions.NoSuchKey:
                return None
            content: bytes = answer["Body"].read()
            return content

        return self._insist(f"read {key}", call, deadline)

    def write_new(self, key: str, content: bytes, *, deadline: float | None = None) -> bool:
        """Write a small object unless there is one of that key; whether it was written."""

        def call() -> bool:
            try:
                self._client.put_object(Bucket=self._name, Key=key, Body=content, IfNoneMatch="*")
            except ClientError as cause:
                if _status(cause) == 412:
                    return False
                raise
            return True

        return self._insist(f"write {key}", call, deadline)

    def delete(self, key: str, *, deadline: float | None = None) -> None:
        """Delete an object; one that is not there is no error."""
        self._insist(
            f"delete {key}",
            lambda: self._client.delete_object(Bucket=self._name, Key=key),
            deadline,
        )

    def upload(self, path: Path, key: str, *, deadline: float) -> None:
        """Write a file, in parts if it is large; whole or not at all."""
        self._transfer(
            f"write {key}",
            lambda manager, watch: manager.upload(str(path), self._name, key, subscribers=watch),
            deadline,
        )

    def download(self, key: str, path: Path, *, deadline: float) -> None:
        """Read an object into a file."""
        self._transfer(
            f"read {key}",
            lambda manager, watch: manager.download(self._name, key, str(path), subscribers=watch),
            deadline,
        )

    def sha256(self, key: str, *, deadline: float) -> str:
        """Of an object, all of which is read and none kept."""

        def submit(manager: Any, watch: list[Any]) -> Any:
            digests.append(_Digest())
            return manager.download(self._name, key, digests[-1], subscribers=watch)

        digests: list[_Digest] = []
        self._transfer(f"read {key}", submit, deadline)
        return digests[-1].hexdigest()

    def _transfer(
        self, what: str, submit: Callable[[Any, list[Any]], Any], deadline: float
    ) -> None:
        def call() -> None:
            manager = create_transfer_manager(self._client, _TRANSFERS)
            watch = _Watch(self._pulse)
            try:
                future = submit(manager, [watch])
                if not watch.done.wait(max(0.0, deadline - time.monotonic())):
                    manager.shutdown(cancel=True, cancel_msg="its deadline has passed")
                future.result()
            finally:
                manager.shutdown()

        self._insist(what, call, deadline)

    def _insist(self, what: str, call: Callable[[], _T], deadline: float | None) -> _T:
        """Call until it succeeds or fails for good; without a deadline, once."""
        pauses = _pauses()
        is_away = False
        while True:
            try:
                answer = _within(
                    call, time.monotonic() + _QUICK_S if deadline is None else deadline
                )
            except _CAUSES as cause:
                pause_s = next(pauses)
                error = self._explained(what, cause)
                is_over = deadline is None or time.monotonic() + pause_s >= deadline
                if is_over or not isinstance(error, ServiceError):
                    raise error from cause
                if not is_away:
                    log.warning("weight store unreachable", extra={"reason": str(error)})
                is_away = True
                self._pulse()
                time.sleep(pause_s)
            else:
                if is_away:
                    log.info("weight store reachable", extra={"path": self._at})
                return answer

    def _explained(self, what: str, cause: Exception) -> RlsdError:
        """One of our errors; a ServiceError is worth another attempt."""
        here = f"weights.url {self._at}"
        match cause:
            case FlexibleChecksumError():
                return WeightsError(f"{here}: cannot {what}: its checksum differs ({cause})")
            case ClientError():
                return self._refused(here, what, cause)
            case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
                return ConfigError(
                    f"{here}: {_one_line(cause)}; give the service a role, or "
                    "AWS_CONFIG_FILE in its environment"
                )
            case (
                ConnectionError()
                | HTTPClientError()
                | IncompleteReadError()
                | RetriesExceededError()
                | TimeoutError()
            ):
                return ServiceError(f"{here}: cannot {what}: {_one_line(cause)}")
            case _:
                return ConfigError(f"{here}: cannot {what}: {_one_line(cause)}")

    def _refused(self, here: str, what: str, cause: ClientError) -> RlsdError:
        code, status = _code(cause), _status(cause)
        if code == "NoSuchBucket":
            return ConfigError(
                f"{here}: there is no such bucket; make it, or mend weights.url or "
                "weights.endpoint_url"
            )
        if code in _DENIED or status in (401, 403):
            return ConfigError(
                f"{here}: cannot {what}: access denied ({code}); allow s3:ListBucket on the "
                "bucket and s3:GetObject on its objects, to the learner s3:PutObject and "
                "s3:DeleteObject too"
            )
        if status in (301, 307) or code == "AuthorizationHeaderMalformed":
            return ConfigError(f"{here}: the bucket is in another region; set weights.region")
        if status == 404:
            return WeightsError(f"{here}: cannot {what}: missing or its checksum differs ({code})")
        if (status >= 500 and status != 501) or status in _AWAY_STATUS:
            return ServiceError(f"{here}: cannot {what}: {_one_line(cause)}")
        return ConfigError(f"{here}: cannot {what}: {_one_line(cause)}")


_TRANSFERS = TransferConfig(
    multipart_threshold=2 * _PART_BYTES,
    multipart_chunksize=_PART_BYTES,
    max_concurrency=_PARALLEL,
    num_download_attempts=_ATTEMPTS,
    io_chunksize=_CHUNK_BYTES,
    preferred_transfer_client="classic",  # another one could not be given up
)


class _Watch(BaseSubscriber):  # type: ignore[misc]  # untyped base
    """Hears of one transfer."""

    def __init__(self, pulse: Callable[[], object]) -> None:
        self._pulse = pulse
        self.done = threading.Event()

    def on_progress(self, **_: Any) -> None:
        """Bytes moved."""
        self._pulse()

    def on_done(self, **_: Any) -> None:
        """It is over, well or not."""
        self.done.set()


class _Digest:
    """Takes what is read, in order: s3transfer orders parts for what cannot seek."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Take the next bytes."""
        self._sha256.update(content)
        return len(content)

    def hexdigest(self) -> str:
        """Of all that was written."""
        return self._sha256.hexdigest()


def _within(call: Callable[[], _T], deadline: float) -> _T:
    """What `call` returns; TimeoutError once the deadline has passed.

    A socket's timeout is for each of its reads, and a server that sends a byte now and then never
    meets it. So the call has a thread, which is left behind then.
    """
    result: Future[_T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001  the caller receives it, whatever it is
            result.set_exception(error)

    threading.Thread(target=run, name="weight-store", daemon=True).start()
    try:
        return result.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise TimeoutError("no answer in time") from None


def _pauses() -> Iterator[float]:
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _status(cause: ClientError) -> int:
    return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(cause: ClientError) -> str:
    return str(cause.response.get("Error", {}).get("Code", ""))


def _one_line(cause: Exception) -> str:
    return " ".join(str(cause).split())[:300]
