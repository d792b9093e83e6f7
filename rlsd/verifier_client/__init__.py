"""Asking a verifier outside this system: over guarded HTTP, in the shapes that verifiers speak."""
