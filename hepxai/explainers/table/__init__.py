"""Methods for the columns of the event-level table."""
