"""Many compiles from one file."""
