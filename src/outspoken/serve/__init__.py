"""Serve: every client that speaks OpenAI's protocol draws from the verbalized distribution."""

from outspoken.serve.pool import Draw, ExhaustedError, Fill, Filled, PoolKey, Pools, Want, pool_key
from outspoken.serve.pool_store import PoolStore

__all__ = ["Draw", "ExhaustedError", "Fill", "Filled", "PoolKey", "PoolStore", "Pools", "Want", "pool_key"]
