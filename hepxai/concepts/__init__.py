"""Concepts of a convolutional layer: directions in its channels, and how the outputs depend on them."""
