"""Runs on disk: directory, lock, lines, checkpoints, following, handing over."""
