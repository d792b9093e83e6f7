"""How a service process starts, serves, drains and stops; how a client reaches it."""
