"""A compile, from plan to result."""
