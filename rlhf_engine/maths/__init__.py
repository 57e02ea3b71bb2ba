"""Pure functions over tensors and numbers: estimators, losses, statistics."""
