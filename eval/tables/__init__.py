"""Tables of scored rows: their columns, and the files and the printed text."""
