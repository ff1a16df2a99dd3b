"""What a video measures: `basics` (similarity, sharpness), `flow` (motion, flicker), `paradox`."""
