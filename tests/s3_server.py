"""An S3 server on loopback (moto, over real HTTP) that fails as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment of those that call it."""

_REFUSAL = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'


@dataclass
class Faults:
    """What happens to requests; each is asked for by method and path."""

    refuse: Callable[[str, str], tuple[int, str] | None] = lambda _method, _path: None
    """The status and code of an error instead of an answer."""
    delay_s: Callable[[str, str], float] = lambda _method, _path: 0.0
    """Before it is handled."""
    trickle_s: Callable[[str], float] = lambda _path: 0.0
    """Between two bytes of a body."""
    requests: list[tuple[str, str]] = field(default_factory=list)


class S3Server:
    """A context manager; what it holds stays while it is away."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: Any = None
        self._client: Any = None
        self.port = 0
        self.faults = Faults()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> S3Server:
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def come_back(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def go_away(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def client(self) -> Any:
        """Of the test's own, past all faults but that it is away."""
        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.url,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                region_name="us-east-1",
            )
        return self._client

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        with self.undisturbed():
            found = self.client().list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", ())]

    def damage(self, bucket: str, prefix: str, name: str, change: Callable[[bytes], bytes]) -> None:
        """Change the only object below `prefix` whose key ends with `name`."""
        [key] = [k for k in self.keys(bucket, prefix) if k.endswith(name)]
        with self.undisturbed():
            content = self.client().get_object(Bucket=bucket, Key=key)["Body"].read()
            self.client().put_object(Bucket=bucket, Key=key, Body=change(content))

    def undisturbed(self) -> _Undisturbed:
        return _Undisturbed(self)

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        faults = self.faults
        faults.requests.append((method, path))
        time.sleep(faults.delay_s(method, path))
        refusal = faults.refuse(method, path)
        if refusal is not None:
            status, code = refusal
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = b"" if method == "HEAD" else _REFUSAL.format(code=code).encode()
            start(f"{status} on purpose", [("Content-Type", "application/xml")])
            return [body]
        answer: Iterable[bytes] = self._app(environ, start)
        pause_s = faults.trickle_s(path)
        return _trickled(answer, pause_s) if pause_s else answer


class _Undisturbed:
    """No faults inside."""

    def __init__(self, server: S3Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._faults, self._server.faults = self._server.faults, Faults()

    def __exit__(self, *_: object) -> None:
        self._server.faults = self._faults


def _trickled(answer: Iterable[bytes], pause_s: float) -> Iterator[bytes]:
    for chunk in answer:
        for n in range(len(chunk)):
            time.sleep(pause_s)
            yield chunk[n : n + 1]
