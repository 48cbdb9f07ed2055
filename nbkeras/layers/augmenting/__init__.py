"""Layers that change images, together with their boxes, masks and labels."""
