"""Heuristics: numbers in, decisions with reasons out; no CASA, no files, no context."""
