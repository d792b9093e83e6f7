"""Write the prompts of the example: `python -m examples.lookup.records`."""

import argparse
from pathlib import Path
from random import Random

from examples.chain.records import Record, write
from examples.lookup import task

HERE = Path(__file__).parent
NUM_TRAIN = 1200
NUM_HELD_OUT = 200
SEED = 20


def record(lookup: task.Lookup, record_id: str) -> Record:
    """Describe one prompt: what the policy reads, what the teacher reads, how it is verified."""
    return {
        "id": record_id,
        "prompt": task.question(lookup),
        "reference": str(task.result(lookup)),
        "privileged": task.privileged(lookup),
        "verifier": {"kind": "exact", "params": {"after": task.MARKER}},
    }


def draw_records(num: int, keys: list[int], name: str, seed: int) -> list[Record]:
    """Return records of distinct questions about the given keys."""
    random = Random(seed)
    lookups: dict[task.Lookup, None] = {}
    while len(lookups) < num:
        lookups[task.draw_lookup(random, keys)] = None
    return [record(lookup, f"{name}-{i:04d}") for i, lookup in enumerate(lookups)]


def main() -> None:
    """Write `train.jsonl` and `held_out.jsonl`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    out: Path = parser.parse_args().out
    train, held_out = task.split_keys()
    write(draw_records(NUM_TRAIN, train, "train", SEED), out / "train.jsonl")
    write(draw_records(NUM_HELD_OUT, held_out, "held-out", SEED), out / "held_out.jsonl")


if __name__ == "__main__":
    main()
