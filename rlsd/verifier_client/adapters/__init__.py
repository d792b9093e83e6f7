"""Shapes that verifiers speak: each translates the native request and its answer, purely."""
