"""What models are trained on: prompts, and their order."""
