"""Registering any two brains: of any orientation, spacing and intensities, from files or in memory."""
