"""Sockets, bytes and headers: uvicorn, the rules for every request, responses, and the proxy to an upstream.

It knows no pools and no methods; `middleware` knows addresses only by their row in `routes.table`. Anything that
deals with HTTP itself belongs here.
"""
