"""The account does not hold, or a number is wrong: what is trained is not what was meant."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert

CORRECTNESS = (
    Alert(
        name="RlsdIdentityResidual",
        expr="max by (run) (abs(rlsd_learner_identity_residual)) > 0",
        after="<1m>",
        severity="critical",
        pillar="correctness",
        page="account",
        summary="Run {{ $labels.run }}: {{ $value }} groups have no outcome and are not in flight",
        description="admitted = trained + rejected + failed + in_flight does not hold. Stop the "
        "run, keep its folder, and run `rlsd audit`.",
    ),
    Alert(
        name="RlsdTrainedTwice",
        expr="max by (run) (max_over_time(rlsd_learner_trained_twice_total[<1h>])) > 0",
        severity="critical",
        pillar="correctness",
        page="account",
        summary="Run {{ $labels.run }}: groups trained twice: {{ $value }}",
        description="A group is in two steps of the batch log. Stop the run and run `rlsd audit`.",
    ),
    Alert(
        name="RlsdNonFiniteStep",
        expr="sum by (run) (increase(rlsd_learner_nonfinite_steps_total[<10m>])) > 0",
        severity="critical",
        pillar="learning",
        page="learning",
        summary="Run {{ $labels.run }}: a step had a loss or gradient that is not finite",
        description="The optimizer step was not taken. Once is a warning; again and again the run "
        "learns nothing.",
    ),
    Alert(
        name="RlsdCreditSignFlips",
        expr="""
            max by (run) (max_over_time(rlsd_credit_sign_flips_total[<1h>])) > 0
              and on (run) max by (run) (rlsd_run_info{method=~"rlsd.*"})""",
        severity="critical",
        pillar="correctness",
        page="credit",
        summary="Run {{ $labels.run }}: {{ $value }} tokens were pushed against their verdict",
        description="RLSD's weights are positive, so a token's advantage has the sign of its "
        "trajectory's. This cannot happen unless the credit is computed wrongly.",
    ),
)
