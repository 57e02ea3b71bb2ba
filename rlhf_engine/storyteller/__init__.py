"""The story model that ships with the project."""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
