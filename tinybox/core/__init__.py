"""Frozen data every part of the suite agrees on. Imports nothing of ours."""
