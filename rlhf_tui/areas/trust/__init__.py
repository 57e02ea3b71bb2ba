"""What a person is asked before code, or another base model, is used."""
