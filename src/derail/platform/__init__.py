"""One question about the operating system per file."""
