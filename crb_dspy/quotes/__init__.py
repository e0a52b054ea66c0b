"""Where a quote stands in a report."""
