"""Stages, heuristics, recipes and descriptions of the VLA."""
