"""Annotated reports from annotation tools, and back to them."""
