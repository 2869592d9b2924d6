"""The fitted model, and what is done to it."""
