"""One token after another: what a model thinks of the next token, for a batch of responses that grow together.

`plain` asks transformers anew for every token, with a cache that has room (`roomy_cache`). `prepared` does so too, with
weights that base and adapter were brought together in (`weights`), and on a CUDA device with a whole token in one graph
(`captured_token`, `captures`). `uncached` is for models whose cache does not answer as they do.
"""
