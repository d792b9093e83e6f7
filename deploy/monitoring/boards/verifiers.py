"""Verdicts, outside verifiers, the sandbox."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.boards.shared import (
    VERDICTS,
    without_verdict,
)
from deploy.monitoring.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Band,
    Column,
    Query,
    R,
    dashboard,
    graph,
    largest,
    number,
    quantile,
    rate,
    rows,
    timeline,
    total,
)

_KIND = 'kind=~"$kind"'
_WHICH = 'verifier=~"$verifier"'
_RUNS = "rlsd_sandbox_runs_total"


def board() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        "verifiers",
        "Verifiers",
        "What they say, how long they take, what they cannot say.",
        [
            Band(8, _verdicts(), "Verdicts"),
            Band(8, _outside(), "Outside verifiers (empty without config.verifier.http)"),
            Band(6, _states()),
            Band(8, _sandbox(), "Sandbox (empty without checks of code)"),
        ],
        variables=("kind", "verifier"),
    )


def _verdicts() -> list[Any]:
    duration = "rlsd_verifier_check_duration_seconds"
    return [
        number(
            "Error budget left",
            Query(
                f"1 - (sum by (run) (increase({VERDICTS}"
                f'{{{R}, {_KIND}, outcome=~"error|timeout"}}[$__range]))'
                f" / sum by (run) (increase({VERDICTS}{{{R}, {_KIND}}}[$__range]))) / 0.005"
            ),
            unit="percentunit",
            text="Of the dashboard's time range: 0.5 % of the checks may end without a verdict. "
            "Normal: above half; below 0 it is overspent.",
            page="verifiers.md",
            steps=((None, RED), (0, ORANGE), (0.5, GREEN)),
            filled=True,
            columns=4,
        ),
        graph(
            "Verdicts by outcome",
            Query(rate(VERDICTS, "kind", "outcome", where=_KIND), "{{kind}} {{outcome}}"),
            unit="short",
            stacked=True,
            text="A second. pass: reward 1; partial: between; fail: 0; error and timeout: none. "
            "Normal: pass grows.",
            page="verifiers.md",
            columns=7,
        ),
        without_verdict(_KIND),
        graph(
            "Time of a check",
            *(
                Query(quantile(q, duration, "kind", where=_KIND), f"{{{{kind}}}} p{q * 100:g}")
                for q in (0.5, 0.95, 0.99)
            ),
            unit="s",
            log=True,
            text="Normal: well below verifier.timeout_s. Near it, timeouts follow.",
            page="verifiers.md",
            columns=7,
        ),
    ]


def _outside() -> list[Any]:
    duration = "rlsd_verifier_http_try_duration_seconds"
    return [
        graph(
            "Tries by result",
            Query(
                rate("rlsd_verifier_http_tries_total", "verifier", "result", where=_WHICH),
                "{{verifier}} {{result}}",
            ),
            unit="short",
            stacked=True,
            text="A second. Normal: scored. unavailable and timeout are tried again; broken: its "
            "answer is no answer; forbidden: credentials.",
            page="verifiers.md",
            columns=6,
        ),
        graph(
            "Time of a try",
            Query(quantile(0.5, duration, "verifier", where=_WHICH), "{{verifier}} p50"),
            Query(quantile(0.95, duration, "verifier", where=_WHICH), "{{verifier}} p95"),
            unit="s",
            text="Normal: steady. It grows with what is outstanding: the verifier is too small.",
            page="verifiers.md",
            columns=6,
        ),
        graph(
            "Retries and clamped scores",
            Query(
                rate("rlsd_verifier_http_retries_total", "verifier", where=_WHICH),
                "{{verifier}} retries",
            ),
            Query(
                rate("rlsd_verifier_http_clamped_total", "verifier", where=_WHICH),
                "{{verifier}} clamped",
            ),
            unit="short",
            text="A second. Normal: 0. Clamped: it gives scores outside score_min and score_max, "
            "so the configuration and the verifier disagree about the scale.",
            page="verifiers.md",
            columns=6,
        ),
        graph(
            "Checks under way",
            Query(
                total("rlsd_verifier_http_outstanding", "verifier", where=_WHICH),
                "{{verifier}} asked",
            ),
            Query(
                total("rlsd_verifier_http_waiting", "verifier", where=_WHICH), "{{verifier}} wait"
            ),
            unit="short",
            text="asked: sent and not answered; wait: for the circuit to close or a canary to "
            "pass. Normal: nobody waits.",
            page="verifiers.md",
            columns=6,
        ),
    ]


def _states() -> list[Any]:
    return [
        timeline(
            "Circuit",
            Query(
                largest("rlsd_verifier_http_circuit_state", "verifier", where=_WHICH),
                "{{run}} {{verifier}}",
            ),
            words={"0": ("closed", GREEN), "1": ("half open", YELLOW), "2": ("open", RED)},
            text="Normal: closed. Open: so many tries failed that none is made for a while.",
            page="verifiers.md",
        ),
        timeline(
            "Canary",
            Query(
                largest("rlsd_verifier_http_canary_state", "verifier", where=_WHICH),
                "{{run}} {{verifier}}",
            ),
            words={"0": ("right", GREEN), "1": ("not answered yet", YELLOW), "2": ("wrong", RED)},
            text="Completions with known verdicts, asked now and then. Normal: right; wrong: none "
            "of its verdicts is taken.",
            page="verifiers.md",
        ),
    ]


def _sandbox() -> list[Any]:
    return [
        rows(
            "Isolation",
            Column(
                "replicas", f"count by (run, tier, policy) (rlsd_verifier_isolation_info{{{R}}})"
            ),
            by=("run", "tier", "policy"),
            text="The sandbox tier that proved itself at the start (docs/verifiers.md). Normal: "
            "one row. Two rows: replicas on different kernels judge with different walls.",
            page="verifiers.md",
            columns=5,
        ),
        graph(
            "Runs by result",
            Query(rate(_RUNS, "result"), "{{result}}"),
            unit="short",
            stacked=True,
            text="A second. ok and failed are the code's own endings. Normal: nothing else. Killed "
            "for memory, processes, output or by policy above 5 %: RlsdSandboxKills.",
            page="verifiers.md",
            columns=7,
        ),
        graph(
            "Time of a run",
            Query(quantile(0.5, "rlsd_sandbox_run_duration_seconds", "tier"), "{{tier}} p50"),
            Query(quantile(0.95, "rlsd_sandbox_run_duration_seconds", "tier"), "{{tier}} p95"),
            unit="s",
            text="Normal: far below the limit of the check. At it: endless loops, or a limit too "
            "tight for right answers.",
            page="verifiers.md",
            columns=6,
        ),
        graph(
            "Places",
            Query(total("rlsd_sandbox_places", where='state="busy"'), "{{run}} busy"),
            Query(total("rlsd_sandbox_places", where='state="total"'), "{{run}} all", dashed=True),
            unit="short",
            text="Normal: below all. All busy all the time: more verifiers (autoscaling.verifier), "
            "or more CPU for each.",
            page="verifiers.md",
            columns=6,
        ),
    ]
