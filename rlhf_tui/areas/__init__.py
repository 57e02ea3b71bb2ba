"""The areas of the screen that a person can name, a folder each."""
