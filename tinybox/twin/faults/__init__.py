"""What can be broken in a twin: one table for each part of the machine."""
