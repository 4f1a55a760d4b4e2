"""Plugin of pl for the VLA Sky Survey."""
