"""Makes the storyteller, the small model that ships in `rlhf_engine.storyteller`: `python -m storyteller_maker`.

It lies beside the packages, not in them: the wheel brings what was made (model, card, tokenizer, words), the source
distribution also what made it.
"""
