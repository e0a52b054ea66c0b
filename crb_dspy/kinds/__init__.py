"""Kinds of findings: one a file, found by name; nothing else imports them."""

# What a category holds that does not say otherwise.
USUAL = "quotes"
