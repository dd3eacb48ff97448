"""What runs inside ranks: standard library only."""
