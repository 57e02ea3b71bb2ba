"""The runs: their list, and what can be done with one."""
