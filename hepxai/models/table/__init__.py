"""Models of the event-level table."""
