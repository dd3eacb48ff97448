"""Recovery of training programs: break a program at each point where it writes, start it again, and compare the end."""
