"""Sweeps: a grid of runs, each a process of the ordinary `train`, and all of them measured alike."""
