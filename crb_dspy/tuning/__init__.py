"""The search for better prompts, and what it is judged by."""
