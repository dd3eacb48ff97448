"""Code that runs a test inside a rank."""
