"""Training: typed recipes, data, losses and the loop."""
