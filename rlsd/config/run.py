"""The whole file, and what does not stand in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import model_validator

from rlsd.config.section import Section
from rlsd.config.sections import (
    DataSection,
    EvaluationSection,
    LearnerSection,
    MethodSection,
    ModelSection,
    RolloutSection,
    RunSection,
    TeacherSection,
    WeightsSection,
)
from rlsd.config.tools import ToolsSection, VerifierToolSection
from rlsd.config.verifiers import VerifierSection
from rlsd.errors import ConfigError


class RunConfig(Section):
    """The whole file."""

    run: RunSection = RunSection()
    weights: WeightsSection = WeightsSection()
    model: ModelSection
    data: DataSection
    method: MethodSection = MethodSection()
    rollout: RolloutSection = RolloutSection()
    tools: ToolsSection = ToolsSection()
    verifier: VerifierSection = VerifierSection()
    teacher: TeacherSection = TeacherSection()
    learner: LearnerSection = LearnerSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _scores_at_the_temperature_of_the_samples(self) -> RunConfig:
        if self.teacher.engine != "transformers" and self.rollout.temperature != 1:
            raise ValueError(
                f"teacher.engine {self.teacher.engine!r} scores at temperature 1 and "
                f"rollout.temperature is {self.rollout.temperature:g}; set it to 1, or "
                f"teacher.engine = 'transformers'"
            )
        return self

    @model_validator(mode="after")
    def _engines_have_a_server_each(self) -> RunConfig:
        if self.rollout.engine_url and self.rollout.engine_url == self.teacher.engine_url:
            raise ValueError(
                "rollout.engine_url and teacher.engine_url are one server, which holds the weights "
                "of one of them; give each its own"
            )
        return self

    @model_validator(mode="after")
    def _the_verifier_has_what_tools_ask_of_it(self) -> RunConfig:
        for name, tool in self.tools.use.items():
            if (
                isinstance(tool, VerifierToolSection)
                and self.verifier.kinds is not None
                and tool.verifier not in self.verifier.kinds
            ):
                raise ValueError(
                    f"tools.use.{name} asks the verifier for {tool.verifier!r}, which is not in "
                    f"verifier.kinds; add it there"
                )
        return self

    @property
    def run_dir(self) -> Path:
        """The folder of this run: batch log, weights, checkpoints, metrics, report."""
        return self.run.dir / self.run.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the other parts are. From the environment, since only it knows."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    rollout: str = "127.0.0.1:50051"
    verifier: str = "127.0.0.1:50052"
    teacher: str = "127.0.0.1:50053"
    learner: str = "127.0.0.1:50054"
    """Only asked for its status."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Addresses:
        """Read `RLSD_REDIS_URL` and `RLSD_{ROLLOUT,VERIFIER,TEACHER,LEARNER}_ADDRESS`.

        `RLSD_REDIS_URL_FILE` names a file that holds the URL instead: it may have a password.

        Raises:
            ConfigError: that file cannot be read.
        """
        names = {
            "rollout": "RLSD_ROLLOUT_ADDRESS",
            "verifier": "RLSD_VERIFIER_ADDRESS",
            "teacher": "RLSD_TEACHER_ADDRESS",
            "learner": "RLSD_LEARNER_ADDRESS",
        }
        given = {k: environment[v] for k, v in names.items() if v in environment}
        if url := named_redis_url(environment):
            given["redis_url"] = url
        return cls(**given)


def named_redis_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """The Redis that the environment names; None where it names none.

    Raises:
        ConfigError: the file of `RLSD_REDIS_URL_FILE` cannot be read.
    """
    if path := environment.get("RLSD_REDIS_URL_FILE"):
        return _only_line(Path(path))
    return environment.get("RLSD_REDIS_URL")


def _only_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(
            f"RLSD_REDIS_URL_FILE {path}: cannot be read ({cause}); name a file with the URL"
        ) from cause
