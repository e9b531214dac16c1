"""A model for lmms-eval that asks `univi serve`, and tasks of Chat-UniVi's paper."""

from univi_eval.client import Servers
from univi_eval.messages import message_parts, request_fields

__all__ = ["Servers", "message_parts", "request_fields"]
