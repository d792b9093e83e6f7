"""The teacher service: scores sampled tokens under privileged context and the plain prompt."""
