"""What is kept at hand of the database, and how it is given up when that changes."""
