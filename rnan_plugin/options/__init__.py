"""Option files: what they may hold, and what the shipped ones do."""
