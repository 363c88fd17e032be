"""One column of one event at other values: the score follows."""
