"""Reports about jobs and ranks: text, JUnit XML, files."""
