"""Which sentences of a report hold findings, learnt from annotated cases without a model."""
