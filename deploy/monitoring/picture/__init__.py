"""A dashboard drawn from a Prometheus, to look at it where there is no Grafana."""
