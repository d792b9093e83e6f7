"""Local mode: the whole system on one machine, as separate processes over the real wire."""
