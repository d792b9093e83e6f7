"""`python -m services.learner --config FILE`: start the learner service."""

import asyncio
import sys

from rlsd.errors import STOPPED_EXIT_CODE
from rlsd.serving.process import configure, exit_on_error, service_parser


def main() -> None:
    """Set the process up, then start the service."""
    parser = service_parser(
        "learner", "Train the policy: admit prompts, seal batches, update, publish."
    )
    arguments = parser.parse_args()
    with exit_on_error("learner"):
        config = configure("learner", arguments)
        from services.learner.start import start  # torch comes in here, after the thread limit

        is_done = asyncio.run(start(config, bind=arguments.bind, metrics=arguments.metrics))
        if not is_done:
            sys.exit(STOPPED_EXIT_CODE)


if __name__ == "__main__":
    main()
