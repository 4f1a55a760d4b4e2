"""Plugin of pl for ALMA science-ready data products."""
