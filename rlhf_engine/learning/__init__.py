"""What learns from minibatches: one adapter and its optimizer, in a method, or in a reward that learns on."""
