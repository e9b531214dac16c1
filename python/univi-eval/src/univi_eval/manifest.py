"""What lmms-eval finds by the entry point `lmms_eval.models`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> "ModelManifest":
    """Returns the entry of the model `univi`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="univi", chat_class_path="univi_eval.model.Univi")
