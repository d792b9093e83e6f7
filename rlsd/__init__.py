"""rlsd: train language models on checkable tasks with token-level credit from a self-teacher."""

import os

# gRPC's C library writes lines of its own to standard error; what goes wrong, we say ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
