"""A saved program on reports of one's own."""
