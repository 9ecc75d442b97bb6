"""Training: the loop, validation, resumable state, learning rate schedule and progress reports."""
