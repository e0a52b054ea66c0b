"""A recorded run, played back: the first minute needs no model."""
