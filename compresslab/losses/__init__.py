"""Distillation losses: small functions of student and teacher outputs, in fp32 whatever the networks run in.

No gradient flows into a teacher. Terms that are divergences of softened distributions carry T^2. A ValueError means
shapes that do not belong together, or a batch too small for relations between its samples.
"""

from compresslab.losses.anchored import anchored_contrastive, anchored_kl, direction_mse
from compresslab.losses.cross_modal import contrastive_kl, feature_mse
from compresslab.losses.decoupled import dkd, nkd
from compresslab.losses.embeddings import PrincipalComponents, cosine, margin_mse, mse, principal_components
from compresslab.losses.features import attention_transfer, hint, projector
from compresslab.losses.grouped import grouped_contrastive, grouped_margin_mse
from compresslab.losses.logits import dist, hard_label, kd, standardised_kd
from compresslab.losses.regression import huber
from compresslab.losses.relations import rkd_angle, rkd_distance, similarity_kl
from compresslab.losses.transformers import attention_maps, hidden_states, uniform_mapping

__all__ = [
    "PrincipalComponents",
    "anchored_contrastive",
    "anchored_kl",
    "attention_maps",
    "attention_transfer",
    "contrastive_kl",
    "cosine",
    "direction_mse",
    "dist",
    "dkd",
    "feature_mse",
    "grouped_contrastive",
    "grouped_margin_mse",
    "hard_label",
    "hidden_states",
    "hint",
    "huber",
    "kd",
    "margin_mse",
    "mse",
    "nkd",
    "principal_components",
    "projector",
    "rkd_angle",
    "rkd_distance",
    "similarity_kl",
    "standardised_kd",
    "uniform_mapping",
]
