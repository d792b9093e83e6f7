"""A cluster as a real server described it (tests/chart/scenario.py), and small changes of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlsd.cluster.asking import Answer
from rlsd.cluster.facts import Facts
from rlsd.cluster.wanted import Wanted
from rlsd.finding import Finding

GOLDEN = Path(__file__).resolve().parent / "golden/cluster"


def recorded(name: str) -> tuple[Facts, Wanted]:
    """Facts about the cluster for a value set, and what that asks."""
    found = json.loads((GOLDEN / f"{name}.json").read_text())
    facts = found["facts"]
    answers, may, secrets = (
        {key: Answer(**given) for key, given in facts[part].items()}
        for part in ("answers", "may", "secrets")
    )
    read = Facts(namespace=facts["namespace"], answers=answers, may=may, secrets=secrets)
    return read, Wanted(found["objects"])


def answered(facts: Facts, path: str, answer: Answer) -> Facts:
    """The same cluster with another answer."""
    return replace(facts, answers={**facts.answers, path: answer})


def changed(facts: Facts, path: str, change: Callable[[Any], None]) -> Facts:
    """The same cluster with one answer changed."""
    body = copy.deepcopy(facts.at(path).body)
    change(body)
    return answered(facts, path, Answer(body))


def asking(wanted: Wanted, change: Callable[[list[dict[str, Any]]], None]) -> Wanted:
    """The same release with its objects changed."""
    objects = copy.deepcopy(list(wanted.objects))
    change(objects)
    return Wanted(objects)


def about(findings: Iterable[Finding], what: str) -> Finding:
    """The finding about something."""
    [found] = [finding for finding in findings if finding.what == what]
    return found


def mark(finding: Finding) -> str:
    """As it is printed."""
    return "ok" if not finding.remedy else ("MISSING" if finding.is_needed else "-")
