"""Language models: where they run, what they cost, and how they are reached."""
