"""`rlsd`: the commands, their options and exit codes (0 done, 1 failed, 2 wrong usage).

`rlsd serve` becomes the service, with its exit codes (docs/configuration.md).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rlsd.errors import RlsdError

app = typer.Typer(
    help="Post-train language models on checkable tasks with token-level credit (RLSD).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Config = Annotated[Path, typer.Argument(help="The run's TOML file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value; repeatable."),
]
Watched = Annotated[
    Path | None,
    typer.Argument(help="A run's folder; without one, RLSD_*_ADDRESS say where to ask."),
]
MetricsPort = Annotated[
    int,
    typer.Option(min=1, max=65535, help="Of /metrics on the services' hosts, without a folder."),
]


@app.command()
def run(
    config: Config,
    set_: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Run the whole system on this machine to the end of the training.

    Starts Redis and the four services as separate processes, shows the progress, and writes the
    run's folder with metrics, weights, checkpoints and an HTML report. Ctrl-C ends the current
    step, writes a checkpoint and stops; `--resume` goes on from there.

    Example: rlsd run examples/chain/rlsd.toml --set run.steps=50
    """
    from rlsd.cli.run import run_command

    run_command(config, set_ or [], resume=resume)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="rollout, verifier, teacher or learner.")],
    runtime: Annotated[
        str, typer.Option(help="process, or ray: replicas on Ray Serve (docs/ray.md).")
    ] = "process",
) -> None:
    """Start one service, as the images do.

    Everything after the name goes to the service: `rlsd serve rollout --help` lists it. Addresses
    of the other parts come from RLSD_REDIS_URL, RLSD_ROLLOUT_ADDRESS, RLSD_VERIFIER_ADDRESS and
    RLSD_TEACHER_ADDRESS.

    Example: rlsd serve verifier --bind 0.0.0.0:50052 --http 0.0.0.0:8080
    """
    if service not in ("rollout", "verifier", "teacher", "learner"):
        raise typer.BadParameter(f"{service!r}; one of rollout, verifier, teacher, learner")
    if runtime not in ("process", "ray"):
        raise typer.BadParameter(f"--runtime {runtime!r}; one of process, ray")
    if runtime == "ray" and service == "learner":
        raise typer.BadParameter(
            "--runtime ray: the learner is one group of processes, no replicas"
        )
    module = [f"services.{service}"] if runtime == "process" else ["services.on_ray", service]
    os.execv(sys.executable, [sys.executable, "-m", *module, *context.args])


@app.command()
def compare(  # noqa: PLR0913  each argument is an option of the command
    config: Config,
    methods: Annotated[
        str,
        typer.Option(
            help="Arms, by comma: a method, or a method with a control "
            "(rlsd:permuted, rlsd:other-reference), optionally as NAME=METHOD."
        ),
    ] = "grpo,rlsd,opsd",
    seeds: Annotated[int, typer.Option(min=1, help="Runs an arm, with seeds 0, 1, …")] = 3,
    set_for: Annotated[
        list[str] | None,
        typer.Option(metavar="ARM:SECTION.KEY=VALUE", help="Override for one arm; repeatable."),
    ] = None,
    set_: Set = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison.")] = None,
) -> None:
    """Compare methods at matched steps: the same prompts and seeds for every arm.

    Writes results.json, compare.html and compare.png. A finished run in the folder is reused, so
    an interrupted comparison goes on where it stopped.

    Example: rlsd compare examples/chain/rlsd.toml --methods grpo,rlsd,rlsd:permuted
    --set-for grpo:learner.lr=2e-4 --seeds 3
    """
    from rlsd.cli.compare import CompareOptions, compare_command

    options = CompareOptions(
        methods=methods.split(","), seeds=seeds, set_for=set_for or [], parallel=parallel, out=out
    )
    compare_command(config, set_ or [], options)


@app.command()
def plan(  # noqa: PLR0913  each argument is an option of the command
    config: Config,
    gpus: Annotated[int, typer.Option(min=1, help="Devices in all.", show_default=False)],
    gpu: Annotated[str | None, typer.Option(help="Their kind: a100, h100, h200 or b200.")] = None,
    rates: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Folder of a run with max_staleness 0: its rates and lengths instead of "
            "assumed ones; repeatable.",
        ),
    ] = None,
    model_params: Annotated[
        float | None,
        typer.Option(min=1, help="Parameters; None: from the config.json in model.path."),
    ] = None,
    mean_tokens: Annotated[
        float | None, typer.Option(min=1, help="Mean length of completions; None: max_tokens / 4.")
    ] = None,
    p99_tokens: Annotated[
        float | None, typer.Option(min=1, help="Its 99th percentile; None: max_tokens.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of prompts.")] = 256,
    rejected: Annotated[
        float, typer.Option(min=0, max=1, help="Share of groups whose rewards are all equal.")
    ] = 0.25,
    steps: Annotated[int, typer.Option(min=10, help="Steps that are simulated.")] = 50,
    set_: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how many devices rollout, teacher and learner should have, and what a step would take.

    Simulates the run's own rules (credits, staleness, batches) with rates from a data sheet, or
    from a run that has been. Starts nothing.

    Example: rlsd plan rlsd.toml --gpus 8 --gpu h100 --model-params 8e9 --set run.max_staleness=1
    """
    from rlsd.cli.plan import PlanOptions, plan_command

    options = PlanOptions(
        gpus=gpus,
        gpu=gpu,
        model_params=model_params,
        rates=tuple(rates or ()),
        mean_tokens=mean_tokens,
        p99_tokens=p99_tokens,
        prompt_tokens=prompt_tokens,
        rejected=rejected,
        steps=steps,
        as_json=as_json,
    )
    plan_command(config, set_ or [], options)


@app.command()
def verify(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL of {id, kind, response, reference, params}; only kind and response are "
            "needed by every kind.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the verdicts there, and show progress and counts."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="verifier.KEY=VALUE", help="Change a value; repeatable."),
    ] = None,
) -> None:
    r"""Give a verdict about each line of a file, from a real verifier service.

    In: {"id": "a", "kind": "math", "response": "so \\boxed{42}", "reference": "42"}

    Out, in the same order: {"id": "a", "outcome": "scored", "score": 1.0, "passed": true,
    "detail": "compared as they stand", "duration_s": 0.0001}

    outcome is scored, error or timeout; score and passed are null unless it is scored, and
    passed means score 1. The service has only the kinds that the file names.

    Example: rlsd verify answers.jsonl --out verdicts.jsonl --set verifier.timeout_s=5
    """
    from rlsd.cli.verify import verify_command

    verify_command(file, out, set_ or [])


verifier_app = typer.Typer(help="Verifiers outside this system.", no_args_is_help=True)
app.add_typer(verifier_app, name="verifier")


@verifier_app.command("check")
def verifier_check(  # noqa: PLR0913  each argument is an option of the command
    url: Annotated[str, typer.Argument(help="As verifier.http.NAME.url will be.")],
    adapter: Annotated[str, typer.Option(help="The shape that it speaks.")] = "native",
    request: Annotated[str, typer.Option(help="JMESPath, for --adapter template.")] = "",
    answer: Annotated[
        str, typer.Option(help="JMESPath, for template and slime; RE2, for openai_judge.")
    ] = "",
    model: Annotated[str, typer.Option(help="Its model, for openai_judge.")] = "",
    prompt: Annotated[str, typer.Option(help="What it is asked, for openai_judge.")] = "",
    bearer_file: Annotated[Path | None, typer.Option(help="Holds the token.")] = None,
    hmac_file: Annotated[list[Path] | None, typer.Option(help="Holds a signing key.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Its certificate authority.")] = None,
    cert_file: Annotated[Path | None, typer.Option(help="The client certificate.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    allow_cidr: Annotated[
        list[str] | None,
        typer.Option(help="Network that it may lie in, beyond the public ones and loopback."),
    ] = None,
    score_max: Annotated[float, typer.Option(help="The score that is reward 1.")] = 1.0,
    cases: Annotated[
        Path | None,
        typer.Option(help="JSONL with known verdicts: {response, reference, params, expect}."),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the report there, too.")
    ] = None,
) -> None:
    """Try what a verifier must do before a run trusts it; exit code 1 when a must failed.

    Contract, determinism, errors, idempotency, hostile completions, latency under load. With
    --cases also whether it knows right from wrong.

    Example: rlsd verifier check https://checks.example.com/v1/verify --bearer-file token
    """
    from rlsd.cli.verifier_check import verifier_check_command

    values = {
        "url": url,
        "adapter": adapter,
        "request": request,
        "answer": answer,
        "model": model,
        "prompt": prompt,
        "bearer_file": bearer_file,
        "hmac_files": hmac_file or [],
        "ca_file": ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
        "allow_cidrs": ["127.0.0.0/8", "::1/128", *(allow_cidr or [])],
        "score_max": score_max,
    }
    verifier_check_command(values, cases, json_out)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a comparison's.")],
) -> None:
    """Write the HTML report of a run or a comparison, one self-contained file."""
    from rlsd.report.compare import write_compare_report
    from rlsd.report.run import write_run_report

    results = folder / "results.json"
    path = write_compare_report(results) if results.exists() else write_run_report(folder)
    Console().print(f"report: {path}")


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    replay: Annotated[
        bool, typer.Option(help="Also train the log once more and compare the weights.")
    ] = True,
    from_checkpoint: Annotated[
        bool, typer.Option("--from-checkpoint", help="Replay from the oldest checkpoint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recompute a run's account and weights from its batch log; exit code 1 when anything is off.

    Run it where the run was started: a relative model.path is read from there.

    Example: rlsd audit runs/RUN --from-checkpoint
    """
    from rlsd.cli.audit import audit_command

    audit_command(folder, replay=replay, from_checkpoint=from_checkpoint, as_json=as_json)


@app.command()
def why(folder: Watched = None) -> None:
    """Say in words what each service waits for, since when, and on whom.

    Exit code 1 when one cannot be asked or has stalled.

    Example: rlsd why runs/RUN
    """
    from rlsd.cli.why import why_command

    why_command(folder)


@app.command()
def status(
    folder: Watched = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    metrics_port: MetricsPort = 9464,
) -> None:
    """Say how a run goes: progress, learning, credit, services, queue, and what is wrong.

    Without a folder, metrics are asked for at port 9464 of the hosts in RLSD_*_ADDRESS, and
    sparklines are missing; of several replicas behind one name, one answers. Exit code 1 when
    something is wrong or cannot be asked.

    Example: rlsd status runs/RUN
    """
    from rlsd.cli.status import status_command

    status_command(folder, as_json=as_json, metrics_port=metrics_port)


@app.command()
def top(folder: Watched = None, metrics_port: MetricsPort = 9464) -> None:
    """Show `rlsd status` again every two seconds, rates over the last minute; q leaves.

    Example: rlsd top runs/RUN
    """
    from rlsd.cli.status import top_command

    top_command(folder, metrics_port=metrics_port)


@app.command()
def doctor(  # noqa: PLR0913  each argument is an option of the command
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at a Kubernetes cluster for the Helm chart.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Of the release; else the context's.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Of the kubeconfig; else its current.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Else KUBECONFIG, else ~/.kube/config.")
    ] = None,
    values: Annotated[
        list[Path] | None,
        typer.Option("--values", "-f", metavar="FILE", help="As for `helm install`; repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As for `helm install`; repeatable."),
    ] = None,
    chart: Annotated[
        str | None, typer.Option(help="Folder, archive or oci:// address; else this checkout's.")
    ] = None,
    tries: Annotated[
        bool,
        typer.Option("--try", help="Also pull every image and ask Redis, in short pods."),
    ] = False,
) -> None:
    """Say in words what this machine lacks to run the system, with the remedy.

    With --cluster, what a Kubernetes cluster lacks for `helm install` with these values: asked
    through kubectl, rendered by helm. Changes nothing, unless --try makes short pods and deletes
    them. Exit code 1 when something needed is missing, 2 for wrong usage.

    Example: rlsd doctor --cluster -n training -f values.yaml
    """
    if not cluster:
        given = (namespace, context, kubeconfig, values, set_, chart, tries or None)
        if any(x is not None for x in given):
            raise typer.BadParameter("these options belong to --cluster; give it, too")
        from rlsd.cli.doctor import doctor_command

        doctor_command()
        return
    from rlsd.cli.doctor_cluster import ClusterOptions, doctor_cluster_command

    options = ClusterOptions(
        namespace=namespace,
        context=context,
        kubeconfig=kubeconfig,
        values=tuple(values or ()),
        sets=tuple(set_ or ()),
        chart=chart,
        tries=tries,
    )
    doctor_cluster_command(options)


def main() -> None:
    """Entry point: an error of ours is one line on standard error."""
    try:
        app()
    except RlsdError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"rlsd: {error}")
        sys.exit(1)
