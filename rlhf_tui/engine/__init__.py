"""Between the engine thread and the screen: what is asked, what happened, what the screen knows of a run."""
