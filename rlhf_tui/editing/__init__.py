"""What is being edited: the config of the next run, its preset, and what can be undone."""
