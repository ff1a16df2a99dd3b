"""From a list of clips to batches: shapes, windows, augmentation, caches of pixels and latents."""
