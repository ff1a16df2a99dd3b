"""Text to video with CogVideoX: `request`, `loading`, `generate`, `recipe`, `lora`."""
