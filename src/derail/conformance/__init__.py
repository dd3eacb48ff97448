"""Random jobs of scripted ranks that check the promises of a launcher."""
