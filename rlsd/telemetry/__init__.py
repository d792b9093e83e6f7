"""What a service says of itself: structured logs and metrics."""
