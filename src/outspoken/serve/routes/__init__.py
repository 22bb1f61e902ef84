"""The addresses of the server: `table` has a row for each, `address` what a row is, `chat` the longer handlers.

A handler takes the `Service` and the request, and returns a response or raises an error. It may import everything
of `serve` but `app`. A new address is a handler and a row in `table`.
"""
