"""Plugin of pl for ALMA interferometry."""
