"""The command line. Kept empty: every import here is paid by each `tinybox status`."""
