"""What runs inside the sandbox. Nothing here decides about a reward by itself."""
