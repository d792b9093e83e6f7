"""`python -m services.verifier [--config FILE]`: start the verifier service."""

import asyncio

from rlsd.serving.process import configure, exit_on_error, service_parser
from rlsd.telemetry.process import prepare_process
from services.verifier.start import start


def main() -> None:
    """Read the arguments and serve until told to stop."""
    parser = service_parser(
        "verifier",
        "Decide about completions: over gRPC, over HTTP, and on the queue of a run.",
        needs_config=False,
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="serve HTTP and /metrics there")
    arguments = parser.parse_args()
    if arguments.set and arguments.config is None:
        parser.error("--set overrides a value of --config; give that too")
    with exit_on_error("verifier"):
        config = None
        if arguments.config is None:
            prepare_process("verifier")
        else:
            config = configure("verifier", arguments)
        serving = start(config, bind=arguments.bind, http=arguments.http, metrics=arguments.metrics)
        asyncio.run(serving)


if __name__ == "__main__":
    main()
