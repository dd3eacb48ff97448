"""What a run should show, and what it did show."""
