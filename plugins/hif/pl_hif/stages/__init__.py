"""Stages: one module per stage."""
