"""What models are trained on: sources of prompts, texts and pairs, and the order in which steps take them."""
