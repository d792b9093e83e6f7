"""`math`: the final answer is mathematically equal to the reference."""
