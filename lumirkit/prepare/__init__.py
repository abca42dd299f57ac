"""Datasets in the challenge's layout from anybody's scans of heads."""
