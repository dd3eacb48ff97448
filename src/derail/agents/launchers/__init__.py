"""The launchers that derail knows: how each is started, and what it promises."""
