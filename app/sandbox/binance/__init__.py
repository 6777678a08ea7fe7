"""Binance as the simulated market speaks it: streams, REST, limits."""
