"""Pages, made from what the methods declare of themselves: none knows a method by name."""
