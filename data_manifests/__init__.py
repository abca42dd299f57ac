"""Which images, pairs and labels belong to which split: typed readers of the challenge's own JSON files."""
