"""Disturbances of growing strength, as scanners and preprocessing make them, and what they cost in Dice."""
