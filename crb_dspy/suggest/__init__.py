"""Which reports to annotate next."""
