"""`http`: a verifier outside this system decides."""
