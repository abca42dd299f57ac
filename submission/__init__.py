"""From weights and a pair list to field files, inside or outside the challenge's container."""
