"""The ledger: every request that was answered, with its reply, in one SQLite file."""

from outspoken.ledger.keys import Draw, Entry, entry_of, reply_of, request_of, score_entry
from outspoken.ledger.store import Ledger, PartRecord, Stored

__all__ = ["Draw", "Entry", "Ledger", "PartRecord", "Stored", "entry_of", "reply_of", "request_of", "score_entry"]
