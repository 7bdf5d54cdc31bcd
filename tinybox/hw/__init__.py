"""The only code that touches the machine: one driver per file. Never decides."""
