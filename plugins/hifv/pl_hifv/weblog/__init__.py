"""Renderers: what a stage shows of its result."""
