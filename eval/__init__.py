"""The leaderboard's metrics, one file each, and the aggregates the organisers print."""
