"""Recording rules by the name of what they record: of a run, and of engines and GPUs."""
