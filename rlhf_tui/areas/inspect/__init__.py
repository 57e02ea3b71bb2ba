"""A response token by token."""
