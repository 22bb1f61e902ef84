"""The ledger: every request that was answered, with its reply, in one SQLite file.

`keys` derives the key of a request, `store` has the rows and writes them, `reader` reads damaged files too,
`checks` verifies, exports and prunes. The room imports chats, replies, errors and `outspoken.io`, and knows
nothing of prompts or methods. What is stored, and in which format, is decided here; a new column of a key starts a
new `KEY_VERSION`.
"""

from outspoken.ledger.keys import Draw, LedgerEntry, StoredRequest, entry_of, reply_of, request_of, score_entry
from outspoken.ledger.store import Ledger, PartCounts, PartRecord, StoredReply

__all__ = [
    "Draw",
    "Ledger",
    "LedgerEntry",
    "PartCounts",
    "PartRecord",
    "StoredReply",
    "StoredRequest",
    "entry_of",
    "reply_of",
    "request_of",
    "score_entry",
]
