"""The workbench on the screen: a Textual app around the headless engine."""
