"""Placeholder.

Text.
"""

print(1)
