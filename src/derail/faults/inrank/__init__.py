"""Code that runs inside ranks: standard library only."""
