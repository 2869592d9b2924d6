"""Files, progress, memory, energy and versions: nothing of the domain."""
