"""Alpaca's doors: the stream of stocks at /v2/iex and /v2/sip, REST at /v2/stocks and /v2/assets."""
