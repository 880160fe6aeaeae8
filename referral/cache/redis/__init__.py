"""Redis, and what is kept in it for all workers."""
