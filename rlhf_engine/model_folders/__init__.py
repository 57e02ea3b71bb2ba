"""The files of models on disk, read without torch, and what may be believed of them."""
