"""CogVideoX adapted to a reader's own clips: LoRA and full fine-tuning, on the one trainer."""
