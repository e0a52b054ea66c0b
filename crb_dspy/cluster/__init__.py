"""Work over many processes and machines, by Ray: pieces to actors, and one cap over all."""
