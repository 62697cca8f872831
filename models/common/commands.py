"""The command of the `grape` program that needs nothing but its settings."""

from models.common.completion import Completion

__all__ = ["Completion"]
