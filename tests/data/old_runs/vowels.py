"""A reward of one's own: the share of vowels."""


def score(prompts, responses):
    return [sum(letter in "aeiou" for letter in text) / max(1, len(text)) for text in responses]
