"""The `lumirkit` command and the demo that needs no data."""
