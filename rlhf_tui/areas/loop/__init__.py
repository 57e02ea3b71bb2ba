"""The guided path: from pairs to a reward model, a policy, and the tuned model judged again."""
