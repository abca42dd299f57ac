"""Tables of scored rows: their columns, and what is written and printed of them."""
