"""Runs over a Ray cluster: the driver divides prompts into shards, workers answer them, the disk is shared.

`cluster` connects, `shards` are files, `messages` pass between `driver` and `worker`, `shares` divide the budget.
The room imports `outspoken.batch`, and `ray` only when a run starts. What all workers need to know goes into
`ShardTask`.
"""
