"""Removing all that is kept of a data set."""
