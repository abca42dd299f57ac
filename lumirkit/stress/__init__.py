"""Registration under stress: the same pairs again under disturbances of growing strength, by several methods."""
