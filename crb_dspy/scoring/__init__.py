"""How well predicted quotes match gold: the score, the paper's metrics, and their audit."""
