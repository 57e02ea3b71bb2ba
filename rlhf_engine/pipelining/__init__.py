"""From labels to a policy: label, learn a reward model, optimize it, measure, and again."""
