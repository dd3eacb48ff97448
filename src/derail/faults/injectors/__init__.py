"""One family of faults per file."""
