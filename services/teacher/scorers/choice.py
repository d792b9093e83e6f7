"""The scorer that the configuration names."""

from __future__ import annotations

from typing import Any

from rlsd.config import RunConfig
from rlsd.errors import ConfigError
from rlsd.images.files import image_files
from rlsd.policy.loading import load_tokenizer
from rlsd.policy.vision import load_vision
from rlsd.telemetry.activity import Activity, Part
from rlsd.trajectory import TeacherNeed
from rlsd.weights import WeightStore
from rlsd.weights.choice import open_store
from services.teacher import metrics
from services.teacher.rows import RowMaker
from services.teacher.scorers.scorer import Scorer

_WHOLE_VOCABULARY = 512
"""Tokens up to which an engine is asked for the log-probs of all of them, at every position."""


def choose_scorer(config: RunConfig, activity: Activity) -> Scorer:
    """The scorer of `teacher.engine`; its libraries are imported here and nowhere else.

    Raises:
        ConfigError: the model cannot be loaded, or the engine cannot give what the method needs.
    """
    model_path = config.teacher.model or config.model.path
    store = open_store(config) if config.teacher.model is None else None
    maker = RowMaker(
        load_tokenizer(model_path),
        template=config.teacher.template,
        max_prefix_tokens=config.teacher.max_prefix_tokens,
        tools=config.tools.functions(),
        vision=load_vision(model_path, image_files(config)),
    )
    if config.teacher.engine == "transformers":
        from services.teacher.scorers.transformers import TransformersScorer

        return TransformersScorer(
            model_path,
            store,
            maker,
            dtype=config.model.dtype,
            max_groups=config.teacher.max_groups,
            probe_tolerance=config.rollout.probe_tolerance,
            threads=config.run.threads,
            pulse=lambda: activity.tick(Part.COMPUTE),
        )
    return _hosted(config, model_path, store, maker)


def _hosted(
    config: RunConfig, model_path: str, store: WeightStore | None, maker: RowMaker
) -> Scorer:
    from rlsd.inference.choice import open_engine
    from rlsd.inference.versions import HeldWeights
    from services.teacher.scorers.hosted import HostedScorer

    num_vocabulary = vocabulary_size(model_path)
    arguments: dict[str, Any] = {}
    if num_likeliest := likeliest_needed(config, num_vocabulary):
        arguments["max_logprobs"] = num_likeliest
    engine = open_engine(
        config.teacher.engine,
        model_path,
        dtype=config.model.dtype,
        max_batch=config.teacher.max_groups * config.rollout.group_size,
        threads=config.run.threads,
        arguments={**arguments, **config.teacher.engine_args},
        url=config.teacher.engine_url,
        key_file=config.teacher.engine_key_file,
        timeout_s=config.teacher.engine_timeout_s,
    )
    weights = None
    if store is not None:
        weights = HeldWeights(
            engine,
            store,
            tolerance=config.rollout.probe_tolerance,
            meter=metrics.WEIGHTS,
            on_installed=lambda installation: metrics.VERSION.set(installation.version),
        )
    return HostedScorer(engine, weights, maker, num_vocabulary=num_vocabulary)


def likeliest_needed(config: RunConfig, num_vocabulary: int) -> int:
    """The likeliest tokens that the method makes the teacher ask its engine for, at a position.

    Raises:
        ConfigError: the teacher's log-probs of the student's likeliest tokens are wanted, and the
            vocabulary is too large to ask for all of it.
    """
    from rlsd.objectives.methods import method_named

    match method_named(config.method.name).teacher:
        case TeacherNeed.NONE | TeacherNeed.SAMPLED:
            return 0
        case TeacherNeed.TEACHER_SUPPORT:
            return min(config.method.num_support, num_vocabulary)
        case TeacherNeed.STUDENT_SUPPORT:
            if num_vocabulary > _WHOLE_VOCABULARY:
                raise ConfigError(
                    f"method.name {config.method.name!r} with teacher.engine "
                    f"{config.teacher.engine!r} works up to a vocabulary of {_WHOLE_VOCABULARY} "
                    f"and this one is {num_vocabulary} (the teacher's log-probs of the student's "
                    f"likeliest tokens are asked for); use teacher.engine = 'transformers'"
                )
            return num_vocabulary


def vocabulary_size(model_path: str) -> int:
    """The tokens that a model distinguishes; its tokenizer may have fewer."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(model_path).get_text_config().vocab_size)
