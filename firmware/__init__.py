"""Firmware inventory and updates of a box."""
