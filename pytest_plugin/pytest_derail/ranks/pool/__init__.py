"""``reuse=``: ranks that stay for the next tests."""
