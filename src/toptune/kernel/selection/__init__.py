"""Selection of kernels, penalties, group weights and centers."""
