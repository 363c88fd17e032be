"""Graph and sequence networks over the particles of an event."""
