"""The verifier service: decides about completions, and says so when it cannot."""
