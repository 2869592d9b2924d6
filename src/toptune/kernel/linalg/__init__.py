"""Factorisations, triangular products and conjugate gradient."""
