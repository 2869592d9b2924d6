"""Solvers of the kernel problem."""
