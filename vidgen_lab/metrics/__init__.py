"""What a video measures: `basics` (similarity, sharpness) and `flow` (motion, flicker)."""
