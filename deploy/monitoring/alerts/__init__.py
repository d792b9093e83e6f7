"""All alerts, in the order of the rule file."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.alerts.correctness import CORRECTNESS
from deploy.monitoring.alerts.learning import LEARNING
from deploy.monitoring.alerts.progress import PROGRESS
from deploy.monitoring.alerts.reward import REWARD

ALERTS: tuple[Alert, ...] = (*CORRECTNESS, *PROGRESS, *REWARD, *LEARNING)
