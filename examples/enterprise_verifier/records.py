"""Write the chain's prompts for this verifier: python -m examples.enterprise_verifier.records.

Into runs/, from examples/chain/*.jsonl; only the `verifier` of each record is another. Also the
token that callers of the verifier show, unless there is one.
"""

import secrets
from pathlib import Path

from examples.chain import records

TOKEN = Path("runs/token")
VERIFIER = {"kind": "http", "params": {"verifier": "chain", "task": {"after": "#"}}}


def main() -> None:
    """Write the files."""
    folder = Path("runs/enterprise_verifier")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train.jsonl", "held_out.jsonl"):
        changed = [line | {"verifier": VERIFIER} for line in records.read(records.HERE / name)]
        records.write(changed, folder / name)
        print(f"{folder / name}: {len(changed)} records")
    if not TOKEN.exists():
        TOKEN.touch(mode=0o600)
        TOKEN.write_text(secrets.token_urlsafe(32))
        print(f"{TOKEN}: a new one")


if __name__ == "__main__":
    main()
