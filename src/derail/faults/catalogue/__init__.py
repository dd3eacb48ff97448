"""What an injector declares of its faults, and what the engine and an injector say to each other."""
