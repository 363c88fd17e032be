"""Predictions of every event at every epoch: their flow between classes, and the events to look at."""
