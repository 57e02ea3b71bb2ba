"""Language models: loading and its checks, the policy, log-probs, sampling, memory, threads, FLOPs."""
