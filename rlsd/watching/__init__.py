"""What a run looks like from outside, while it goes: asking its parts, and what the answers mean."""
