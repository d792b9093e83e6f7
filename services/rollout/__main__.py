"""`python -m services.rollout --config FILE`: start the rollout service."""

import asyncio

from rlsd.serving.process import configure, exit_on_error, service_parser


def main() -> None:
    """Set the process up, then start the service."""
    parser = service_parser("rollout", "Sample completions under the newest policy weights.")
    arguments = parser.parse_args()
    with exit_on_error("rollout"):
        config = configure("rollout", arguments)
        from services.rollout.start import start  # torch comes in here, after the thread limit

        asyncio.run(start(config, bind=arguments.bind, metrics=arguments.metrics))


if __name__ == "__main__":
    main()
