"""What is in a clip: objects, actions, captions and vectors."""
