"""The rollout service: samples completions under the newest published weights."""
