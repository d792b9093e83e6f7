"""The command line: one module a command; torch and the services are never imported here."""
