"""Calls to URLs that other people choose: guarded, signed, and sent once."""
