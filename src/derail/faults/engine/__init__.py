"""Engine that carries out a plan on a job; the only part of ``faults`` with state."""
