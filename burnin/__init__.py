"""Factory acceptance of a box."""
