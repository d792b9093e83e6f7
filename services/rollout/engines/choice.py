"""The engine that the configuration names."""

from __future__ import annotations

from rlsd.config import RunConfig
from rlsd.images.files import image_files
from rlsd.telemetry.activity import Activity, Part
from rlsd.weights import WeightStore
from services.rollout import metrics
from services.rollout.engines.engine import Engine


def choose_engine(config: RunConfig, store: WeightStore, activity: Activity) -> Engine:
    """The engine of `rollout.engine`; its libraries are imported here and nowhere else."""
    from rlsd.policy.vision import load_vision

    vision = load_vision(config.model.path, image_files(config))

    def pulse() -> None:
        activity.tick(Part.COMPUTE)

    if config.rollout.engine == "transformers":
        from services.rollout.engines.transformers import TransformersEngine

        return TransformersEngine(
            config.model.path,
            store,
            dtype=config.model.dtype,
            max_batch=config.rollout.max_batch,
            probe_tolerance=config.rollout.probe_tolerance,
            threads=config.run.threads,
            vision=vision,
            pulse=pulse,
        )
    from rlsd.inference.choice import open_engine
    from rlsd.inference.versions import HeldWeights
    from rlsd.policy.loading import load_tokenizer
    from services.rollout.engines.hosted import HostedEngine
    from services.rollout.engines.updates import POLICIES

    engine = open_engine(
        config.rollout.engine,
        config.model.path,
        dtype=config.model.dtype,
        max_batch=config.rollout.max_batch,
        threads=config.run.threads,
        arguments=config.rollout.engine_args,
        url=config.rollout.engine_url,
        key_file=config.rollout.engine_key_file,
        timeout_s=config.rollout.engine_timeout_s,
    )
    weights = HeldWeights(
        engine,
        store,
        tolerance=config.rollout.probe_tolerance,
        meter=metrics.WEIGHTS,
        on_installed=lambda x: metrics.observe_installation(
            x.version, probe_difference=x.probe_difference
        ),
    )
    return HostedEngine(
        engine,
        weights,
        load_tokenizer(config.model.path),
        vision=vision,
        updates=POLICIES[config.rollout.on_update](),
    )
