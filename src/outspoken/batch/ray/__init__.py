"""Runs over a Ray cluster: the driver divides prompts into shards, workers answer them, the disk is shared.

`cluster` connects, and passes messages between `driver` and `worker`; `shards` are files, `shares` divide the
budget. The room imports `outspoken.batch`, and `ray` only when a run starts. A new setting for all workers belongs
in `ShardTask`.
"""
