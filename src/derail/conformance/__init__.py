"""A supervisor driven through random jobs of scripted ranks, and held against what it has promised."""
