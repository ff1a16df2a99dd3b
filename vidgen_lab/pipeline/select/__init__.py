"""What is measured of a clip, and which clips stay: gates, duplicates, balance, split, frames."""
