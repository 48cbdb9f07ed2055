"""Models, and how they are trained: what a model has (compiled losses and metrics, a feed, steps, a loop) and Model itself."""
