"""Floor 2: what layers and functional graphs are built of."""
