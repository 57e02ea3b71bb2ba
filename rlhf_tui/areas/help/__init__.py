"""Help, keys and glossary."""
