"""`rlsd doctor --cluster`: what a Kubernetes cluster lacks for the chart, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rlsd.cli.doctor import print_findings
from rlsd.cluster.asking import Kubectl, find_cluster
from rlsd.cluster.attempts import attempt_all
from rlsd.cluster.chart import Rendering, find_chart, render
from rlsd.cluster.facts import gather
from rlsd.cluster.findings import findings
from rlsd.cluster.wanted import Wanted
from rlsd.errors import ConfigError
from rlsd.finding import Finding

_TRY_S = 600.0
"""For the pods of --try: images of engines are large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """As the command takes them."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None
    values: tuple[Path, ...] = ()
    sets: tuple[str, ...] = ()
    chart: str | None = None
    tries: bool = False


def doctor_cluster_command(options: ClusterOptions) -> None:
    """Print the findings; exit code 1 when something needed is missing, 2 for wrong usage."""
    console = Console(highlight=False, markup=False)
    try:
        chart = find_chart(options.chart)
        kubectl = find_cluster(options.kubeconfig, options.context)
        namespace = options.namespace or kubectl.namespace
        rendering = render(chart, namespace, options.values, options.sets)
    except ConfigError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"rlsd: {error}")
        raise SystemExit(2) from error
    console.print(f"{kubectl.where}, namespace {namespace}", soft_wrap=True)
    found = list(examine_cluster(kubectl, namespace, rendering, options))
    print_findings(found, console)


def examine_cluster(
    kubectl: Kubectl, namespace: str, rendering: Rendering, options: ClusterOptions
) -> Iterator[Finding]:
    """The values, then the cluster, then with --try what pods show in place of what was unknown."""
    yield _values(rendering, options)
    wanted = Wanted(rendering.objects)
    facts = gather(kubectl, namespace, wanted)
    found = list(findings(facts, wanted))
    if not options.tries or not wanted.objects or len(found) == 1:
        yield from found
        return
    tried = list(attempt_all(kubectl, facts, wanted, limit_s=_TRY_S))
    better = {(x.group, x.what) for x in tried}
    yield from (x for x in found if (x.group, x.what) not in better)
    yield from tried


def _values(rendering: Rendering, options: ClusterOptions) -> Finding:
    if rendering.refusal:
        return Finding(
            group="values",
            what="chart",
            state="refuses the values, so only the cluster itself is looked at",
            remedy=rendering.refusal,
        )
    if not options.values and not options.sets:
        return Finding(
            group="values",
            what="chart",
            state="its defaults, on CPUs",
            remedy="-f VALUES looks at what your run needs",
            is_needed=False,
        )
    kinds = len({x["kind"] for x in rendering.objects})
    state = f"takes the values: {len(rendering.objects)} objects of {kinds} kinds"
    return Finding(group="values", what="chart", state=state)
