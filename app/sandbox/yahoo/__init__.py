"""The simulated market's Yahoo door: cookie, crumb and chart JSON."""
