"""A run's score and gold over √KL."""
