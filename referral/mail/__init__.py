"""Mail: where it goes, and how it is handed over."""
