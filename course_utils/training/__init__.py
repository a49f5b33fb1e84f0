"""Training: loops, checkpoints, and several processes."""
