"""`python -m services.verifier.checks.code.prepare`: build the component of sandbox tier T3.

An image does this while it is built, with `RLSD_WASM_DIR` set as it is where the service runs.
Without it the service does the same when it first comes down to tier T3. Prints the file.
"""

from __future__ import annotations

import sys

from services.verifier.checks.code.check import JOBS
from services.verifier.sandbox.selftest import PROBE_IN_WASM

_TIMEOUT_S = 1800.0
"""An image may be built on a busy machine, or for another processor than this one; nobody waits."""


def main() -> None:
    """Build it unless it is there."""
    from services.verifier.sandbox.wasm.build import build  # wasmtime is an extra

    sys.stdout.write(f"{build((PROBE_IN_WASM, *JOBS), timeout_s=_TIMEOUT_S)}\n")


if __name__ == "__main__":
    main()
