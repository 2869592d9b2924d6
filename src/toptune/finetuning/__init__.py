"""Fine-tuning of whole networks: the baseline."""
