"""How a view of a run looks in a terminal: one column below 110 characters, two from there on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rlsd.cli.sparkline import sparkline
from rlsd.telemetry.activity import State, duration
from rlsd.watching.view import ServiceView, View

_WIDE = 110
_LEAST_SHARE = 0.02
"""Of a service's time, to be worth a word."""
_NOT = "–"
_STATES: Mapping[str, str] = {
    State.STARTING: "starting",
    State.BUSY: "busy",
    State.WAITING_FOR_WORK: "no work",
    State.WAITING_FOR_WEIGHTS: "no weights",
    State.WAITING_FOR_QUEUES: "no queues",
    State.WAITING_FOR_SERVICE: "on others",
    State.CHECKPOINTING: "checkpointing",
    State.STOPPING: "stopping",
}
"""Shares of time; a state of a newer release is shown by its own name."""

Row = tuple[str, Text]


def screen(view: View, found: Sequence[str], *, width: int) -> RenderableType:
    """The whole page; `found` is what is wrong."""
    above: list[RenderableType] = [_title(view, found), *_problems(found), _progress(view)]
    column = (width - 3) // 2 if width >= _WIDE else width
    learning = Group(
        _section("learning", _rows(_learning(view, column - 14))),
        _section("account", _rows(_account(view))),
    )
    flow = _section("flow", _rows(_flow(view)))
    services = _section(_title_of_services(view), _services(view, width))
    if width < _WIDE:
        return Group(*above, learning, services, flow)
    columns = Table.grid(padding=(0, 3, 0, 0), expand=True)
    columns.add_column(width=column)
    columns.add_column(width=column)
    columns.add_row(learning, flow)
    return Group(*above, columns, services)


def _title(view: View, found: Sequence[str]) -> Table:
    title = Table.grid(expand=True)
    title.add_column(no_wrap=True, overflow="ellipsis")
    title.add_column(justify="right", no_wrap=True)
    names = [x for x in (view.run_id or "a run that no service names", view.method) if x]
    name = Text(" · ".join(names), style="bold")
    if view.model:
        name.append(f" · {view.model}", style="not bold dim")
    count = "1 thing is wrong" if len(found) == 1 else f"{len(found)} things are wrong"
    word = Text(count, style="bold red") if found else Text("healthy", style="bold green")
    title.add_row(name, word)
    return title


def _problems(found: Sequence[str]) -> list[RenderableType]:
    return [Text(f"! {line}", style="red") for line in found]


def _progress(view: View) -> Table:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    if view.step is None or view.num_steps is None:
        row.add_row("step –", "", "")
        return row
    pace = "" if view.steps_per_hour is None else f"{view.steps_per_hour:,.0f} steps/h"
    left = "" if not view.eta_s else f"   {duration(view.eta_s)} left"
    row.add_row(
        f"step {view.step} of {view.num_steps}",
        ProgressBar(total=max(1, view.num_steps), completed=view.step),
        pace + left,
    )
    return row


def _section(title: str, content: RenderableType) -> Group:
    return Group(Rule(Text(title, style="dim"), align="left", style="dim"), content)


def _rows(rows: Iterator[Row]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=12, no_wrap=True, style="dim")
    table.add_column()
    for row in rows:
        table.add_row(*row)
    return table


def _learning(view: View, width: int) -> Iterator[Row]:
    learning, credit, gap = view.learning, view.credit, view.gap
    blocks = max(0, min(40, width - 8))
    yield "reward", _series(_number(learning.reward, ".3f"), view.rewards, blocks)
    accuracy = _percent(learning.held_out_accuracy, 1)
    yield "held out", _series(accuracy, view.accuracies, blocks)
    if learning.groups:
        total = sum(learning.groups.values())
        words = {"mixed": "mixed", "all_pass": "all pass", "all_fail": "all fail"}
        shares = [f"{words[k]} {_percent(learning.groups.get(k, 0) / total)}" for k in words]
        yield "groups", Text(" · ".join(shares))
    if credit.lam is not None:
        delta, lam = _number(credit.delta_abs_nats, ".3g"), _number(credit.lam, ".3g")
        yield "credit", Text(f"|Δ| {delta} nats · λ {lam}")
        low, high = _percent(credit.clip_low, 1), _percent(credit.clip_high, 1)
        yield "clipped", Text(f"{low} low, {high} high")
    if learning.leakage is not None:
        yield "leakage", Text(_percent(learning.leakage, 1))
    gaps = {"mean": gap.mean_nats, "p99": gap.p99_nats, "max": gap.max_nats}
    yield "log-prob gap", Text(" · ".join(f"{k} {_number(v, '.2g')}" for k, v in gaps.items()))
    if gap.kl_nats is not None:
        yield "mismatch", Text(f"KL {_number(gap.kl_nats, '.2g')} nats")
    if learning.entropy_nats is not None:
        yield "entropy", Text(f"{learning.entropy_nats:.3g} nats")


def _series(value: str, values: Sequence[float], blocks: int) -> Text:
    return Text.assemble((f"{value:<8}", "bold"), (sparkline(values, blocks), "cyan"))


def _account(view: View) -> Iterator[Row]:
    account = view.account
    if account is None:
        yield "groups", Text(_NOT)
        return
    yield (
        "groups",
        Text(
            f"{account.admitted} admitted = {account.trained} trained + "
            f"{sum(account.rejected.values())} rejected + {sum(account.failed.values())} failed + "
            f"{account.in_flight} in flight"
        ),
    )
    if reasons := {**account.rejected, **account.failed}:
        yield "for", Text(" · ".join(f"{reason} {n}" for reason, n in sorted(reasons.items())))
    yield (
        "must be 0",
        Text.assemble(
            *("residual ", _zero(account.residual)),
            *(" · trained twice ", _zero(account.trained_twice)),
        ),
    )
    outcomes, share = view.verdicts.outcomes, view.verdicts.error_share
    names = [o for o in ("pass", "partial", "fail", "error", "timeout") if o in outcomes]
    names += sorted(outcomes.keys() - set(names))
    said = [f"{outcomes[o]:,.0f} {o}" for o in names]
    if share is not None:
        said.append(f"no verdict {_percent(share, 1)}")
    yield "verdicts", Text(" · ".join(said) or _NOT)


def _zero(count: int | None) -> tuple[str, str]:
    """A number that must be 0."""
    if count is None:
        return _NOT, ""
    return str(count), "bold red" if count else "green"


def _title_of_services(view: View) -> str:
    if view.span_s is None:
        return "services, time since their start"
    return f"services, time in the last {duration(view.span_s)}"


def _services(view: View, width: int) -> Table:
    shares_width = 28 if width < _WIDE else 44
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=8, no_wrap=True, style="dim")
    table.add_column(ratio=1)
    table.add_column(width=shares_width)
    for service in view.services:
        table.add_row(service.name, _now(service), _shares(service.shares))
    return table


def _now(service: ServiceView) -> Text:
    if service.activity is None:
        return Text("cannot be asked", style="red")
    style = "red" if service.activity.stalled else ""
    return Text(service.activity.words(), style=style)


def _shares(shares: Mapping[str, float]) -> Text:
    said = [f"{_STATES.get(k, k)} {_percent(v)}" for k, v in shares.items() if v >= _LEAST_SHARE]
    return Text(" · ".join(said) or _NOT)


def _flow(view: View) -> Iterator[Row]:
    if view.queue is None:
        yield "queue", Text(view.queue_silence or "not asked: nothing says where Redis is")
    else:
        stages = [
            f"{s.stage} {s.entries}" + (f" ({duration(s.oldest_age_s)})" if s.entries else "")
            for s in view.queue
        ]
        yield "queue", Text(" → ".join(stages))
    flow = view.delivery
    said = [
        f"{_number(flow.redeliveries, 'd')} redeliveries",
        f"{_number(flow.dead_letters, 'd')} dead letters",
    ]
    yield "", Text(" · ".join(said))
    if flow.memory_share is not None:
        yield "redis", Text(f"memory {_percent(flow.memory_share)}")
    versions = [
        f"{s.name} {_NOT if s.version is None else s.version}"
        for s in view.services
        if s.name != "verifier"
    ]
    yield "weights", Text(" · ".join(versions))
    if view.sync_s:
        yield "synced in", Text(" · ".join(f"{k} {v:.2g} s" for k, v in view.sync_s.items()))
    yield "staleness", _staleness(view)


def _staleness(view: View) -> Text:
    if view.staleness is None:
        return Text(_NOT)
    largest = view.staleness.at_most
    said = f"at most {largest:g}" if largest is not None else f"above {view.staleness.above:g}"
    limit = "" if view.staleness_limit is None else f" of {view.staleness_limit:g} allowed"
    return Text(f"{said}{limit}")


def _number(value: float | None, form: str) -> str:
    if value is None:
        return _NOT
    return format(value, form) if math.isfinite(value) else str(value)


def _percent(share: float | None, digits: int = 0) -> str:
    return _NOT if share is None else f"{share * 100:.{digits}f} %"
