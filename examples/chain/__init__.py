"""The demo task: a chain of modular arithmetic that a 110 k-parameter model half knows."""
