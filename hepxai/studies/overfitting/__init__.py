"""Overfitting and its effect on importances."""
