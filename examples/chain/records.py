"""Write the prompts of the demo: `python -m examples.chain.records`.

One record a line. Training and held-out prompts are disjoint; the seeds are constants, so the
files are the same wherever the script runs.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from examples.chain import task

HERE = Path(__file__).parent
NUM_TRAIN = 3200
NUM_HELD_OUT = 256
SEED = 20

Record = dict[str, Any]


def record(chain: task.Chain, record_id: str) -> Record:
    """Describe one prompt: what the policy reads, what the teacher reads, how it is verified."""
    values = task.running_values(chain)
    return {
        "id": record_id,
        "prompt": task.question(chain),
        "reference": str(values[-1]),
        "privileged": task.trace(values),
        "verifier": {"kind": "exact", "params": {"after": task.MARKER}},
    }


def distinct_chains(random: Random) -> Iterator[task.Chain]:
    """Draw chains without end and without repetition."""
    seen: set[task.Chain] = set()
    while True:
        chain = task.draw_chain(random)
        if chain not in seen:
            seen.add(chain)
            yield chain


def draw_records(num_train: int, num_held_out: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Return the training and the held-out records; no prompt is in both."""
    chains = distinct_chains(Random(seed))
    held_out = [record(next(chains), f"chain-held-out-{i:04d}") for i in range(num_held_out)]
    train = [record(next(chains), f"chain-train-{i:04d}") for i in range(num_train)]
    return train, held_out


def write(records: list[Record], path: Path) -> None:
    """Write one record a line."""
    path.write_text("".join(json.dumps(line) + "\n" for line in records), encoding="utf-8")


def read(path: Path) -> list[Record]:
    """Read what `write` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Write `train.jsonl` and `held_out.jsonl`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    out: Path = parser.parse_args().out
    train, held_out = draw_records(NUM_TRAIN, NUM_HELD_OUT, SEED)
    write(train, out / "train.jsonl")
    write(held_out, out / "held_out.jsonl")
    print(f"{len(train)} training and {len(held_out)} held-out records in {out}")


if __name__ == "__main__":
    main()
