"""Learning while the verifier fails: `python benchmarks/verifier_errors.py --seeds 3`.

The demo's task, checked by a server over HTTP that answers always (arm `clean`) or fails for 20 %
of the trajectories (arm `faulty`: 500s, hangs, 10 MB bodies, malformed JSON, NaN), whatever the
attempt; and always again, with a fifth fewer prompts a step (arm `fewer`): errors take trajectories
away, and this is what that costs by itself. Then the batch logs are read: who was hit, and what
reward it got.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rlsd.batch_log import BatchLog
from rlsd.local.processes import free_ports
from tests.chaos.faulty_verifier import fault_of, reward_of

PERCENT = {"clean": 0, "faulty": 20, "fewer": 0}
RESULTS = Path("benchmarks/results")


def main() -> None:
    """Run both arms, read their logs, write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/verifier-errors"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.chaos.faulty_verifier", f"--port={port}"]
    with subprocess.Popen(command) as server:
        try:
            subprocess.run(_compare(arguments.out, arguments.seeds, port), check=True)
        finally:
            server.kill()
    results = json.loads((arguments.out / "results.json").read_text())
    results["checks"] = {
        f"{arm}-seed{seed}": checks(arguments.out, f"{arm}-seed{seed}", percent)
        for arm, percent in PERCENT.items()
        for seed in range(arguments.seeds)
    }
    (RESULTS / "verifier_errors.json").write_text(json.dumps(results, indent=1) + "\n")
    shutil.copy(arguments.out / "compare.png", RESULTS / "verifier_errors.png")
    print(json.dumps(results["checks"], indent=1))


def _compare(out: Path, seeds: int, port: int) -> list[str]:
    data = out / "train.jsonl"
    lines = Path("examples/chain/train.jsonl").read_text().splitlines()
    verifier = {"kind": "http", "params": {"verifier": "chain"}}
    data.write_text(
        "".join(json.dumps({**json.loads(x), "verifier": verifier}) + "\n" for x in lines)
    )
    http = "verifier.http.chain"
    settings = [
        f'data.train="{data}"',
        'verifier.kinds=["exact","http"]',
        f'{http}.allow_cidrs=["127.0.0.0/8"]',
        f"{http}.try_timeout_s=1.0",
        f"{http}.total_timeout_s=1.0",
        f"{http}.retries=0",
    ]
    command = [str(Path(sys.executable).with_name("rlsd")), "compare", "examples/chain/rlsd.toml"]
    command += ["--methods", ",".join(f"{arm}=rlsd" for arm in PERCENT)]
    command += [x for s in settings for x in ("--set", s)]
    for arm, percent in PERCENT.items():
        command += ["--set-for", f'{arm}:{http}.url="http://127.0.0.1:{port}/{percent}"']
    command += ["--set-for", "fewer:run.groups_per_step=13"]  # of 16
    return [*command, "--seeds", str(seeds), "--parallel", "2", "--out", str(out)]


def checks(folder: Path, run_id: str, percent: int) -> dict[str, int]:
    """What became of the checks of one run."""
    found: Counter[str] = Counter()
    log = BatchLog(folder / run_id / "batches", run_id)
    for step in log.steps():
        for group in log.read(step).groups:
            for t in group.trajectories:
                fault = fault_of(f"{group.run_id}/{group.group_id}/{t.member}", percent)
                assert t.verdict is not None
                right = reward_of(t.text, group.prompt.reference)
                if fault is not None:
                    found["hit"] += 1
                    found["hit and rewarded"] += t.verdict.is_scored
                else:
                    found["checked"] += 1
                    found["checked and without its reward"] += not t.verdict.is_scored or (
                        t.verdict.reward != right
                    )
    return {
        k: int(found[k])
        for k in ("checked", "checked and without its reward", "hit", "hit and rewarded")
    }


if __name__ == "__main__":
    main()
