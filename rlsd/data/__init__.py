"""Prompts: read from files and catalogues, checked, ordered, compared."""
