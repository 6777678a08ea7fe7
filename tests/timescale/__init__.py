"""A TimescaleDB for tests, without Docker; and what the platform does on one."""
