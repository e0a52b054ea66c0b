"""Programs over cases: who is asked when, and the rows that come of it."""
