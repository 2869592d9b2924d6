"""Reports: what a model, its data or a comparison is like, as results and as pages."""
