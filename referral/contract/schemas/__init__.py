"""What comes in, what goes out, and the views that make it: one file a domain. OpenAPI is made of these."""
