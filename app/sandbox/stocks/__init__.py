"""The simulated stock market: seeded prints inside real sessions, and what becomes of them afterwards."""
