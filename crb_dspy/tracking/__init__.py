"""MLflow: the store of runs, a run, and how the store shows them."""
