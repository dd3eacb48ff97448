"""Operating-system tools for injectors."""
