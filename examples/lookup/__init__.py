"""A task that cannot be solved without asking a tool, and a model of 110 k parameters for it."""
