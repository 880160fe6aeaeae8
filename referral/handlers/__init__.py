"""The endpoints, each one's story from top to bottom."""

API = "/api/v1"
