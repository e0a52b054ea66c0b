"""What a person has agreed to: foreign code, foreign servers, hosts outside."""
