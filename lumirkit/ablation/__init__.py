"""Ablations: the jobs of a list of rows, the workers that share them, and the tables they end in."""
