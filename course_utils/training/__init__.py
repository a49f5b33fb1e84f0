"""Training: loops, checkpoints, states compared, and several processes."""
