"""The pools: candidates of a request that wait to be drawn, their fills, and their file.

`pools` has all of them, `pool` one, `refill` asks the model, `store` keeps them over restarts; `values` are what
they exchange. It may import the engine, methods and plain values, and no HTTP.
"""
