"""kubectl: the user's own way to his cluster, with a deadline for every question."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd.errors import ConfigError

_ANSWER_S = 20
_ALL_S = 30.0
_KEYS = "{{range $key, $_ := .data}}{{println $key}}{{end}}"
"""Names alone leave kubectl: what a Secret holds never comes here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server says to one question."""

    body: Any = None
    reason: str = ""
    """Why there is none: NotFound, Forbidden, or what was said."""
    said: str = ""
    """The server's own sentence about that, where it has one."""

    @property
    def is_given(self) -> bool:
        """Whether there is an answer."""
        return not self.reason

    @property
    def items(self) -> list[dict[str, Any]]:
        """Of a list; empty where there is no answer."""
        return list((self.body or {}).get("items") or ())


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One cluster, as one user."""

    command: tuple[str, ...]
    namespace: str
    """Of the context; where it names none, `default`."""
    where: str
    """Context and server, for the reader."""

    def get(self, path: str) -> Answer:
        """The object or list at a path of the API."""
        return self._json("get", "--raw", path)

    def create(self, path: str, body: object) -> Answer:
        """Post an object, and what it became."""
        return self._json("create", "--raw", path, "--filename=-", given=json.dumps(body))

    def delete(self, path: str) -> Answer:
        """Delete an object."""
        return self._json("delete", "--raw", path)

    def keys(self, namespace: str, secret: str) -> Answer:
        """The keys of a Secret, without what they hold."""
        said = self._run(
            "get", "secret", secret, "--namespace", namespace, "-o", f"template={_KEYS}"
        )
        return said if said.reason else Answer(sorted(str(said.body).split()))

    def _json(self, *arguments: str, given: str = "") -> Answer:
        said = self._run(*arguments, given=given)
        if said.reason:
            return said
        try:
            return Answer(json.loads(said.body))
        except ValueError:
            return Answer(reason=f"no JSON: {str(said.body)[:60]}")

    def _run(self, *arguments: str, given: str = "") -> Answer:
        command = [*self.command, f"--request-timeout={_ANSWER_S}s", *arguments]
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=_ALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Answer(reason=f"no answer within {_ALL_S:.0f} s")
        return Answer(done.stdout) if not done.returncode else _refusal(done.stderr)


def _refusal(said: str) -> Answer:
    if found := re.search(r"Error from server \((\w+)\): (.*)", said):
        return Answer(reason=found[1], said=found[2])
    lines = [line for line in said.strip().splitlines() if not re.match(r"[EW]\d{4} ", line)]
    return Answer(reason=lines[-1].removeprefix("error: ") if lines else "kubectl said nothing")


def find_cluster(kubeconfig: Path | None, context: str | None) -> Kubectl:
    """Who is asked, by the user's kubeconfig.

    Raises:
        ConfigError: there is no kubectl, no kubeconfig, or no such context.
    """
    program = shutil.which("kubectl")
    if not program:
        raise ConfigError("no `kubectl` on PATH; install it in the server's version")
    if kubeconfig and not kubeconfig.is_file():
        raise ConfigError(f"--kubeconfig {kubeconfig}: no such file")
    command = [program]
    command += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    command += [f"--context={context}"] if context else []
    view = _view(command)
    if not view.get("clusters"):
        if "KUBERNETES_SERVICE_HOST" in os.environ and not (kubeconfig or context):
            return Kubectl(tuple(command), "default", "the cluster that this pod runs in")
        named = f"has no context {context}" if context else "names no cluster"
        raise ConfigError(
            f"kubeconfig {kubeconfig or os.environ.get('KUBECONFIG') or '~/.kube/config'} {named}; "
            "give --kubeconfig or --context (`kubectl config get-contexts`)"
        )
    [of_context] = view["contexts"]
    server = view["clusters"][0]["cluster"].get("server", "")
    namespace = of_context["context"].get("namespace", "default")
    return Kubectl(tuple(command), namespace, f"{of_context['name']} at {server}")


def _view(command: Sequence[str]) -> dict[str, Any]:
    """The kubeconfig's part that counts, credentials left out; empty where there is none."""
    asked = [*command, "config", "view", "--minify", "-o", "json"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_ALL_S, check=False)
    except subprocess.TimeoutExpired as cause:
        raise ConfigError(
            f"`kubectl config view` does not end within {_ALL_S:.0f} s; run it by hand"
        ) from cause
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}
