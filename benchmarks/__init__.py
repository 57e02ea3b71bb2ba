"""Measurements of the product on the machine at hand; each module prints a table."""
