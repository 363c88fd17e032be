from .card import (
    ModelCard as ModelCard,
)
from .graph.lstm import (
    LstmModel as LstmModel,
)
from .graph.particle_gnn import (
    ParticleGNNModel as ParticleGNNModel,
)
from .image.convolutional import (
    ConvolutionalModel as ConvolutionalModel,
)
from .image.soft_tree import (
    SoftTreeModel as SoftTreeModel,
)
from .network import (
    NetworkModel as NetworkModel,
)
from .protocols import (
    Differentiable as Differentiable,
)
from .protocols import (
    DifferentiableImage as DifferentiableImage,
)
from .protocols import (
    DifferentiableTable as DifferentiableTable,
)
from .protocols import (
    HasAttention as HasAttention,
)
from .protocols import (
    HasEdgeWeights as HasEdgeWeights,
)
from .protocols import (
    HasFeatureMaps as HasFeatureMaps,
)
from .protocols import (
    HasLastLayer as HasLastLayer,
)
from .protocols import (
    HasLinearReadout as HasLinearReadout,
)
from .protocols import (
    HasNeurons as HasNeurons,
)
from .protocols import (
    HasSoftTree as HasSoftTree,
)
from .protocols import (
    HasTrees as HasTrees,
)
from .protocols import (
    Imaging as Imaging,
)
from .protocols import (
    Model as Model,
)
from .protocols import (
    Tabular as Tabular,
)
from .storage import (
    load_model as load_model,
)
from .table.boosted_trees import (
    BoostedTreesModel as BoostedTreesModel,
)
from .table.dense import (
    DenseModel as DenseModel,
)
from .wrappers.image import (
    ImageModel as ImageModel,
)
from .wrappers.pyg import (
    PygModel as PygModel,
)
from .wrappers.table import (
    SklearnModel as SklearnModel,
)
from .wrappers.table import (
    TableModel as TableModel,
)

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
    "SklearnModel",
    "SoftTreeModel",
    "TableModel",
    "Tabular",
    "load_model",
]
