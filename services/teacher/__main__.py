"""`python -m services.teacher --config FILE`: start the teacher service."""

import asyncio

from rlsd.serving.process import configure, exit_on_error, service_parser


def main() -> None:
    """Set the process up, then start the service."""
    parser = service_parser("teacher", "Score sampled tokens under privileged context.")
    arguments = parser.parse_args()
    with exit_on_error("teacher"):
        config = configure("teacher", arguments)
        from services.teacher.start import start  # torch comes in here, after the thread limit

        asyncio.run(start(config, bind=arguments.bind, metrics=arguments.metrics))


if __name__ == "__main__":
    main()
