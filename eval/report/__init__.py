"""HTML pages of results: one file each, with everything in it, for any screen, in light and dark."""
