"""What the program of a rank comes to: calls, imports, signals; and who waits for it."""
