"""The score against the number of annotated cases."""
