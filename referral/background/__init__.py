"""What is done beside requests, by workers that run for as long as the application does."""
