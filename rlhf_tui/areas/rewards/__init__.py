"""Word lists, reward forms, the reward lab, and trust in reward code."""
