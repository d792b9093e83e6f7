"""`reasoning_gym`: a reasoning-gym dataset's own score."""
