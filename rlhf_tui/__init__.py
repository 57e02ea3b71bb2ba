"""The workbench: a Textual app around the headless engine. It never touches a tensor; it reads events."""
