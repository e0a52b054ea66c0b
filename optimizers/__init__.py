"""Recipes: one way of tuning a file."""
