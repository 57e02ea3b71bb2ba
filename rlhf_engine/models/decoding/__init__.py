"""One token after another: what a model thinks of the next token, for a batch of responses that grow together.

`plain` asks transformers anew for every token. `traced` records that once as a flat list of tensor operations
(`graph` makes it short), multiplies with weights that base and adapter were merged into, and replays it. `uncached` is
for models whose cache does not answer as they do.
"""
