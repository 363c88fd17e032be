"""Models of detector images."""
