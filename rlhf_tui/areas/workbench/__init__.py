"""The workbench: everything about a run on one screen."""
