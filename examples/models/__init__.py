"""Models that more than one script uses."""
