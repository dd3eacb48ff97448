"""Who supervises the ranks: derail itself, or somebody else."""
