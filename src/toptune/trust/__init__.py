"""Which answers and which labels to trust: pure functions of probabilities, scores and features."""
