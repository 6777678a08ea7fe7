"""History over REST: one short class per exchange, each fit for `app.services.ports.History`.

`klines(instrument, timeframe, start_ms, end_ms, limit=1000)` answers the closed bars that start in [start, end), oldest
first, in the exchange's own words: verified, with its decimals. Errors: SourceError, RateLimited, UnknownInstrument.
"""
