"""torch's public face on the launcher."""
