"""Models and their training: Model, and its parts: compiled losses and metrics, a feed, steps, a loop."""
