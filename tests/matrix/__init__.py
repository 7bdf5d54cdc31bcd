"""Every fault of the twin against every check of health: what docs/health.md shows."""
