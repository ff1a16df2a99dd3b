"""Training loops. The embedded toy models are pre-trained by the modules named `toy_*`."""
