"""Which files there are, what is in them, and where one shot ends and the next begins."""
