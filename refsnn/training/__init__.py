"""Algorithm 1: configuration, iteration, inference, and runs that can be resumed."""
