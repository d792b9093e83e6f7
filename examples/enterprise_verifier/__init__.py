"""A verifier of one's own, made with the SDK, in a run."""
