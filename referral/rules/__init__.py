"""Rules that several endpoints apply."""
