"""One aspect of the operating system per file."""
