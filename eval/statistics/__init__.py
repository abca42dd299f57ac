"""What chance has to do with a table: tests, intervals, ranks."""
