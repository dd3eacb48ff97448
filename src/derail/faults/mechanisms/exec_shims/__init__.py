"""Programs that set something up for a rank, and become its program then."""
