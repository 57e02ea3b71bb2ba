"""A run as a model folder that others can load."""
