"""Explain machine learning on high-energy-physics events.

>>> import hepxai
>>> events = hepxai.read(hepxai.DatasetCard.find("charged_higgs")).events
>>> model, history = hepxai.fit(hepxai.ModelCard.find("transformer_edgeconv"), events)
>>> found = hepxai.explain(model, events.where("test"), "edge_ig")
>>> found.select(pair=("muon", "muon")).population()
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
