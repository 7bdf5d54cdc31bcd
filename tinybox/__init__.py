"""The management suite of the tinybox: power, noise, thermals and health of one box on one outlet."""

__version__ = "0.1.0"
