"""Scorers: pure functions of a result."""
