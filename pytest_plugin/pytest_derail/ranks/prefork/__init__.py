"""What is made ready in the process that warm ranks are forked from."""
