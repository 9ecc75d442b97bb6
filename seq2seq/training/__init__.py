"""Training: the loop, its resumable state, the learning rate, and what it says meanwhile."""
