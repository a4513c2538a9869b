"""What the paper measures of its networks, and tables of many runs."""
