"""The metrics, one file each, and the maps and distances that they share."""
