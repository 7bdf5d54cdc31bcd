"""The checks of health: one file for each part of the machine, one small function for each check."""
