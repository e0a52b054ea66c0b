"""Prompt programs: one extraction strategy a file."""
