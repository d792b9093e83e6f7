"""A run seen from outside while it goes: its parts are asked, and what they answer is read."""
