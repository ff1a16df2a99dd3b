"""Noise in and noise out: schedules and paths, what is learned of them, and the way back."""
