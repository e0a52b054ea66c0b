"""How well predicted quotes match gold: the objective, the paper's metrics, and their audit."""
