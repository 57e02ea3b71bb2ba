"""RLHF by hand: PPO with LoRA actor, LoRA critic and frozen reference on one base model, headless."""

__version__ = "0.1.0"
