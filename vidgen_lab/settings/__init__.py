"""What machine this is, and what fits on it: `hardware`, `weights`, `tiers`, `runs`."""
