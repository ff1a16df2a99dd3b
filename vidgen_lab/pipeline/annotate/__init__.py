"""What is in a clip: objects, actions, captions, vectors, and people where machines are unsure."""
