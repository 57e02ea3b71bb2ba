"""Sweeps: grids of runs, begun from a form, and as groups in the list of runs."""
