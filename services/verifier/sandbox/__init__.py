"""Confined processes for code that nobody vouches for."""
