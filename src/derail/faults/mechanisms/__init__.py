"""Tools of the system that injectors use, without a word for faults."""
