"""The loop that trains a run, and what others ask of it between two steps."""
