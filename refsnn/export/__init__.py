"""Export and import of trained networks: as a PyTorch `state_dict` and as a NIR graph."""
