"""Verifiers and the sandbox: whether there is a verdict, and whether it is one."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert

REWARD = (
    Alert(
        name="RlsdVerifierErrorBudgetBurn",
        expr="""
            rlsd:verifier_errors:ratio_rate5m > 14.4 * 0.005
              and rlsd:verifier_errors:ratio_rate1h > 14.4 * 0.005""",
        after="<2m>",
        severity="critical",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of {{ $labels.kind }} "
        "checks give no verdict",
        description="Errors and timeouts above 7.2 % over 5 minutes and over an hour: the budget "
        "of 0.5 % burns 14.4 times too fast. They are no rewards, but the sample shrinks.",
    ),
    Alert(
        name="RlsdVerifierCircuitOpen",
        expr="max by (run, verifier) (rlsd_verifier_http_circuit_state) > 0",
        after="<1m>",
        severity="warning",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: the circuit to {{ $labels.verifier }} is open",
        description="So many tries failed that it is left alone for a while; checks wait. Between "
        "its open times it is half open, which counts as well.",
    ),
    Alert(
        name="RlsdVerifierCanaryWrong",
        expr="max by (run, verifier) (rlsd_verifier_http_canary_state) > 1",
        severity="critical",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: {{ $labels.verifier }} judges its canaries wrongly",
        description="It gives another verdict than the known one, so none of its verdicts is "
        "taken until the canary passes.",
    ),
    Alert(
        name="RlsdSandboxKills",
        expr="rlsd:sandbox_kills:ratio_rate15m > 0.05",
        after="<15m>",
        severity="warning",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of sandbox runs were "
        "killed or broke",
        description="Memory, processes, output, signals, policy: the policy writes what the "
        "sandbox must end, or its limits are too tight for right answers.",
    ),
)
