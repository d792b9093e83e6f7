"""One Ray with Serve for all tests: its start takes longer than most of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

import pytest
import pytest_asyncio
from published_policy import Policy

from rlsd.local.processes import free_ports
from rlsd.streams.embedded import embedded_redis
from rlsd.weights import FolderStore

CONFIG = Path("examples/chain/rlsd.toml").absolute()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ray_port(tmp_path_factory):
    """The port of Serve's gRPC proxy. Replicas find Redis by the environment of Ray's nodes."""
    import ray

    from services.on_ray.deploy import start_serve

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        async with embedded_redis() as url:
            patch.setenv("RLSD_REDIS_URL", url)
            patch.setenv("PYTHONPATH", os.getcwd(), prepend=os.pathsep)
            context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            patch.setenv("RAY_ADDRESS", context.address_info["gcs_address"])
            port, http_port = free_ports(2)
            start_serve(port=port, http_port=http_port)
            yield port
            from ray import serve

            serve.shutdown()
            ray.shutdown()
            shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)


@pytest.fixture
def policy(tmp_path):
    """Its published versions are where the run `run` of this folder looks for them."""
    return Policy(FolderStore(tmp_path / "runs/run/weights", "run"))


@pytest.fixture
def deploy(ray_port, tmp_path):
    """Deploys a service of the example for the length of a test; the address to call it at."""
    from ray import serve

    from services.on_ray.deployments import Options, build

    with contextlib.ExitStack() as stack:

        def deploy(service, *overrides, wait=True, **options):
            overrides = (f'run.dir="{tmp_path}/runs"', "run.transport=grpc", *overrides)
            application = build(
                service, Options(config=CONFIG, set=overrides, **{"cpus": 0.1, **options})
            )
            target = serve.RunTarget(application, name=service, route_prefix=f"/{service}")
            serve.run_many([target], wait_for_applications_running=wait)
            stack.callback(serve.delete, service)
            return f"127.0.0.1:{ray_port}/{service}"

        yield deploy
