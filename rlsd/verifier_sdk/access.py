"""Who may ask: a bearer token, signed requests, or both; the secrets are files."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlsd.errors import ConfigError
from rlsd.verifier_client.credentials import SecretFile, read_key_file
from rlsd.verifier_contract.signature import SignatureRefused, check_signature


class Refused(Exception):
    """The request does not show what it must; the message says what."""


class Access:
    """Checks requests against secrets that may change while the service runs."""

    def __init__(self, *, bearer: Path | None, hmac_keys: Sequence[Path]) -> None:
        """Raises ConfigError when a secret cannot be used."""
        self._bearer = SecretFile(bearer) if bearer is not None else None
        self._keys = [SecretFile(path) for path in hmac_keys]
        if self._bearer is not None:
            self._bearer.text()
        for file in self._keys:
            read_key_file(file)

    @property
    def is_open(self) -> bool:
        """Whether everybody may ask."""
        return self._bearer is None and not self._keys

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Return for a request that may be answered; raises Refused."""
        try:
            if self._bearer is not None:
                _check_bearer(self._bearer.text(), headers.get("authorization", ""))
            if self._keys:
                keys = [read_key_file(file) for file in self._keys]
                check_signature(keys, headers, body, now=time.time())
        except SignatureRefused as refusal:
            raise Refused(str(refusal)) from refusal
        except ConfigError as cause:
            raise Refused("this verifier's own secret cannot be read") from cause


def _check_bearer(token: str, given: str) -> None:
    if not hmac.compare_digest(f"Bearer {token}".encode(), given.encode("utf-8", "replace")):
        raise Refused("the bearer token is wrong or missing")
