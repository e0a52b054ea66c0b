"""Cases and schemas, and where they come from."""
