"""What a registration is: fields, splines, inverses, the network, its weights. Knows no challenge and no training."""
