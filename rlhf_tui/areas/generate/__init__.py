"""One prompt answered."""
