"""Ranks that later tests reuse (``reuse=``)."""
