"""What one training step does; loops, files and screens are elsewhere."""
