"""Upkeep of the repository: notebooks, the map of the book, pages made from measurements."""
