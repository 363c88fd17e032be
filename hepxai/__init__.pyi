from .attribution import Attribution as Attribution
from .concepts.choice import choose_concepts as choose_concepts
from .concepts.ice import ice as ice
from .concepts.tcav import tcav as tcav
from .datasets import DatasetCard as DatasetCard
from .datasets import read as read
from .events import Events as Events
from .explainers import explain as explain
from .export.friends import write_friends as write_friends
from .models.card import ModelCard as ModelCard
from .models.ensemble import Ensemble as Ensemble
from .models.network import NetworkModel as NetworkModel
from .models.wrappers.image import ImageModel as ImageModel
from .models.wrappers.onnx import load_onnx as load_onnx
from .models.wrappers.pyg import PygModel as PygModel
from .models.wrappers.sequence import SequenceModel as SequenceModel
from .models.wrappers.table import SklearnModel as SklearnModel
from .models.wrappers.table import TableModel as TableModel
from .models.wrappers.tree_files import load_trees as load_trees
from .run import Run as Run
from .scan import Scan as Scan
from .studies.comparison.faithfulness_table import compare_maps as compare_maps
from .training import fit as fit

__version__: str

__all__ = [
    "Attribution",
    "DatasetCard",
    "Ensemble",
    "Events",
    "ImageModel",
    "ModelCard",
    "NetworkModel",
    "PygModel",
    "Run",
    "Scan",
    "SequenceModel",
    "SklearnModel",
    "TableModel",
    "choose_concepts",
    "compare_maps",
    "explain",
    "fit",
    "ice",
    "load_onnx",
    "load_trees",
    "read",
    "tcav",
    "write_friends",
]
