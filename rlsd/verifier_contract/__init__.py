"""What passes between this system and a verifier outside it: the native contract, version 1."""
