"""Outside services that are asked about people."""
