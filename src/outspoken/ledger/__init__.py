"""The ledger: every request that was answered, with its reply, in one SQLite file."""

from outspoken.ledger.keys import Draw, LedgerEntry, entry_of, reply_of, request_of, score_entry
from outspoken.ledger.store import Ledger, PartRecord, StoredReply

__all__ = [
    "Draw",
    "Ledger",
    "LedgerEntry",
    "PartRecord",
    "StoredReply",
    "entry_of",
    "reply_of",
    "request_of",
    "score_entry",
]
