"""Chapter 1: what only its notebook needs."""
