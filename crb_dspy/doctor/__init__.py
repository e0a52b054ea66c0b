"""What works here: installation, store, and the server of a model."""
