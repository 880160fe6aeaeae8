"""The HTTP contract: what comes in, what goes out, what goes wrong, and the document that says so."""
