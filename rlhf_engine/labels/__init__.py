"""What people say of pairs of answers: the pairs, the judgements, and the files that keep them. Nothing needs torch."""
