"""rlsd: train language models on checkable tasks with token-level credit from a self-teacher."""
