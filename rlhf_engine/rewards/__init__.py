"""Rewards: what a response is worth. Each module but `base`, `words` and `composite` is one kind of reward."""
