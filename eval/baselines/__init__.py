"""Displacement fields of reference methods, so that every table of scores has rows to compare with."""
