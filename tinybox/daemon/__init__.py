"""The loop and its API: read, decide, apply, publish."""
