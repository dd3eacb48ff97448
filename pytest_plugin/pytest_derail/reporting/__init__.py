"""What became of jobs and ranks, as text, in JUnit XML, and as files."""
