"""The transport: groups move between the services' stages, each transition taking effect once."""
