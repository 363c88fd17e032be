"""Methods for the pixels of detector images."""
