"""Tuned prompts for other tools, each with a proof that they are the tuned ones.

One format a file; the file's name, `_` written `-`, is the format's name.
"""
