"""Plugin of pl for ALMA single dish."""
