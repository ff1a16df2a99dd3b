"""Chapter 3: what only its notebook needs."""
