"""A trained network as files for other programs, and back: a PyTorch `state_dict`, NIR."""
