"""torchrun, whose exit code is that of its first failed rank.

`python -m services.learner.group [torchrun's options] -m services.learner …`. torchrun itself ends
with 1 whatever its ranks ended with, and who restarts it (a Kubernetes Job) could not tell a wrong
configuration from a lost connection.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from rlsd.errors import STOPPED_EXIT_CODE

_BY_SIGNAL = 128


def main(arguments: Sequence[str]) -> int:
    """Run the group; its exit code."""
    try:
        run(parse_args(list(arguments)))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        code = int(failure.exitcode)
        return code if code > 0 else _BY_SIGNAL - code
    except SignalException:  # its ranks have been asked to stop, and have ended
        return STOPPED_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
