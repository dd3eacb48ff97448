"""What a plan is made of, as frozen values: nothing here imports anything else of ``faults``."""
