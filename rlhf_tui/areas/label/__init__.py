"""Which of two responses is better: the screen on which a person says so."""
