"""A first experiment of one's own: schema, settings, examples."""
