"""The web log: pages described by renderers (page), pictures (plots, observation), the static site (site)."""
