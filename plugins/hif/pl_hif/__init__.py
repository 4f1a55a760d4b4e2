"""Stages, heuristics, scorers and pages that all radio interferometers share."""
