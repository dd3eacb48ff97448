"""Programs that run in place of a launcher or a rank, or between the two."""
