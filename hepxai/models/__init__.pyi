from .card import ModelCard
from .graph.lstm import LstmModel
from .graph.particle_gnn import ParticleGNNModel
from .image.convolutional import ConvolutionalModel
from .image.soft_tree import SoftTreeModel
from .network import NetworkModel
from .protocols import (
    Differentiable,
    DifferentiableImage,
    DifferentiableTable,
    HasAttention,
    HasEdgeWeights,
    HasFeatureMaps,
    HasLastLayer,
    HasLinearReadout,
    HasNeurons,
    HasSoftTree,
    HasTrees,
    Imaging,
    Model,
    Tabular,
)
from .storage import load_model
from .table.boosted_trees import BoostedTreesModel
from .table.dense import DenseModel
from .wrappers.image import ImageModel
from .wrappers.knn import knn_edges
from .wrappers.onnx import load_onnx
from .wrappers.pyg import PygModel
from .wrappers.sequence import SequenceModel
from .wrappers.table import SklearnModel, TableModel
from .wrappers.tree_files import load_trees

__all__ = [
    "BoostedTreesModel",
    "ConvolutionalModel",
    "DenseModel",
    "Differentiable",
    "DifferentiableImage",
    "DifferentiableTable",
    "HasAttention",
    "HasEdgeWeights",
    "HasFeatureMaps",
    "HasLastLayer",
    "HasLinearReadout",
    "HasNeurons",
    "HasSoftTree",
    "HasTrees",
    "ImageModel",
    "Imaging",
    "LstmModel",
    "Model",
    "ModelCard",
    "NetworkModel",
    "ParticleGNNModel",
    "PygModel",
    "SequenceModel",
    "SklearnModel",
    "SoftTreeModel",
    "TableModel",
    "Tabular",
    "knn_edges",
    "load_model",
    "load_onnx",
    "load_trees",
]
