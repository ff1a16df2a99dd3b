"""Chapter 2: what only its notebook needs."""
