"""The search for equal, nearly equal and synonymous texts.

`minhash` signs texts, `search` and `greedy` decide which are near-duplicates, `ray_search` does the same on a
cluster, `semantic` compares embeddings. This package may import `outspoken.synth.records` and the rooms below
`synth`; it knows nothing of pipelines. Another way to compare texts is a module that changes `NearDuplicates`.
"""
