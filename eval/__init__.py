"""Scoring of displacement fields: the leaderboard's numbers, tables, statistics and reports."""
