"""The training loop (`trainer`) and what it needs: data, objectives, optimizers, checkpoints."""
