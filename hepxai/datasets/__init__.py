"""Data sets: cards, expressions, reading ROOT files, splits, and reports on what is in a file."""

from hepxai.datasets.array_files import read_h5, read_padded, read_parquet
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.checking import CheckReport, check_card
from hepxai.datasets.columns import ReadError
from hepxai.datasets.cutflow import CutFlow
from hepxai.datasets.data_card import card_of_file, card_of_files, data_card
from hepxai.datasets.drafting import draft_card
from hepxai.datasets.image_files import read_images
from hepxai.datasets.inspection import FileReport, inspect_file
from hepxai.datasets.presentation import ExperimentLabel
from hepxai.datasets.reading import Reading, ReadLog, iterate, read, read_entries
from hepxai.datasets.sources import FileInfo

__all__ = [
    "CheckReport",
    "CutFlow",
    "DatasetCard",
    "ExperimentLabel",
    "FileInfo",
    "FileReport",
    "ReadError",
    "ReadLog",
    "Reading",
    "card_of_file",
    "card_of_files",
    "check_card",
    "data_card",
    "draft_card",
    "inspect_file",
    "iterate",
    "read",
    "read_entries",
    "read_h5",
    "read_images",
    "read_padded",
    "read_parquet",
]
