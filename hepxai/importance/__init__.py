"""Importances over a whole population: permutation and impurity."""
