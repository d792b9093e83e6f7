"""`python -m services.verifier [--config FILE]`: start the verifier service."""

import argparse
import asyncio
from pathlib import Path

from rlsd.serving.process import configure, exit_on_error
from rlsd.telemetry.process import prepare_process
from services.verifier.start import start


def main() -> None:
    """Read the arguments and serve until told to stop."""
    parser = argparse.ArgumentParser(
        prog="rlsd serve verifier",
        description="Decide about completions: over gRPC, over HTTP, and on a run's queue.",
    )
    parser.add_argument("--config", type=Path, help="the run's TOML file; without it no queue")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a value"
    )
    parser.add_argument("--bind", default="127.0.0.1:0", metavar="HOST:PORT", help="gRPC address")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve HTTP and /metrics there")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="serve only /metrics there")
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
