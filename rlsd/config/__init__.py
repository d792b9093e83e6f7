"""The run's configuration: one file, small sections, every key checked before anything starts.

All services of a run read the same file (on Kubernetes, one ConfigMap), so a value that two of them
need is written once. Addresses and secrets are not in it: they come from the environment
(`Addresses`), because they differ between a laptop and a cluster while the run stays the same.
Library code and objectives take plain arguments, never a section of this file.
"""

from rlsd.config.loading import load, load_alone
from rlsd.config.run import Addresses, RunConfig, named_redis_url
from rlsd.config.sections import LearnerSection, MethodSection
from rlsd.config.tools import HttpToolSection, ToolsSection, VerifierToolSection
from rlsd.config.verifiers import HttpVerifierSection, VerifierSection

__all__ = [
    "Addresses",
    "HttpToolSection",
    "HttpVerifierSection",
    "LearnerSection",
    "MethodSection",
    "RunConfig",
    "ToolsSection",
    "VerifierSection",
    "VerifierToolSection",
    "load",
    "load_alone",
    "named_redis_url",
]
