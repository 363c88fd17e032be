"""Comparison of data with simulation: inputs, scores and explanations."""

from hepxai.studies.data_comparison.numbers import DataComparison, LevelComparison, compare_with_data

__all__ = ["DataComparison", "LevelComparison", "compare_with_data"]
