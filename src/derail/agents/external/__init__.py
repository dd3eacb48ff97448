"""Launchers that are not derail: started in a sandbox, watched from outside, held against what they say."""
