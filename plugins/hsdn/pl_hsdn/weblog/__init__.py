"""Pages of the Nobeyama plugin."""
