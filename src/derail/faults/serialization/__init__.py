"""Tables of TOML and JSON, and triggers in them."""
