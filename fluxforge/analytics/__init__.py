"""From tables to what an analyst asks for: bars, order books, features, coverage.

Everything here works on Polars frames that a reader returned, knows where data is missing, and
never computes across a gap or a reconnect.
"""
