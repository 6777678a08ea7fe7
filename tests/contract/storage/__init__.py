"""Every query of app/storage on a plain PostgreSQL and on TimescaleDB: one suite, equal answers, equal tables."""
