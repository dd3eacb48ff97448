"""Programs that are executed in place of a launcher or a rank, or between them."""
