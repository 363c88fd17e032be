"""Models to explain, shared by the rooms of methods."""

from explained_models import (  # noqa: F401 - fixtures
    events,
    image_model,
    make_model,
    model,
    soft_tree_model,
    table_model,
    toy,
    trained,
    tree_model,
    wide_table,
)
