"""Models answering, without learning: generations, comparisons, probes."""
