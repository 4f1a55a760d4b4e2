"""Scorers of the Nobeyama plugin."""
