"""What several metrics are computed from: warped label maps, their comparison, distances between surfaces."""
