"""Stages of the Nobeyama plugin."""
