"""Dashboards, recording rules and alerts, generated: `python -m deploy.monitoring`."""
