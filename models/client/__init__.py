"""The Python client of a GRAPE server. It imports neither a model nor numpy, Pillow or torch."""

from models.client.client import AsyncClient, Client
from models.client.errors import ClientError

__all__ = ["AsyncClient", "Client", "ClientError"]
