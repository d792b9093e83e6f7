"""Work that may have to be killed: child processes that answer one question at a time."""
