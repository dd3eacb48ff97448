"""Tools of the operating system for injectors."""
