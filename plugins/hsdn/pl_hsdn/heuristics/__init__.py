"""Heuristics of the Nobeyama plugin."""
