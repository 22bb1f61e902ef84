"""What a job would take, before anything is asked: requests, tokens, money."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken._extras import need
from outspoken.batch.file import BatchJob, ledger_beside
from outspoken.batch.output import Output
from outspoken.batch.plan import RunEngine
from outspoken.batch.sources import PromptRow
from outspoken.chat import Usage
from outspoken.engine import CHARACTERS_A_TOKEN, PromptRunner, RunMetrics
from outspoken.ledger import Ledger, reply_of
from outspoken.methods.steps import steps

__all__ = ["estimate", "rows_in"]

_WORDS = 60
_TOKENS_A_WORD = 1.4
_TOKENS_AROUND = 20
_SAMPLED_REPLIES = 1000


def rows_in(source: str | Path) -> int | None:
    """About how many rows a source has, found out quickly; None for standard input and packed files."""
    path = Path(source)
    if not path.is_file() or path.suffix in (".gz", ".json"):
        return None
    if path.suffix == ".parquet":
        with need("pyarrow.parquet", "reading Parquet", "tables").ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    with path.open("rb") as file:
        count = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
    return max(1, count - (path.suffix in (".csv", ".tsv")))


def estimate(job: BatchJob) -> dict[str, Any]:
    """Requests, tokens and cost of a job, and what the guess rests on. Sends nothing and writes nothing.

    Replies that the job's ledger holds already are counted apart. Raises what the job would raise for its input.
    """
    plan = job.plan
    path = Path(job.ledger) if job.ledger else ledger_beside(Output(job.out).path)
    with Ledger(path) if path.is_file() else nullcontext() as ledger:
        asker = RunEngine(plan, RunMetrics(), ledger).asker
        found = _Found()
        for row in job.rows():
            if isinstance(row, PromptRow):
                found.count(row, asker, ledger)
            else:
                found.bad_rows += 1
                found.first_bad_row = found.first_bad_row or f"{row.where}: {row.reason}"
        usual = None if ledger is None else _usual(ledger, plan.model.name)
    words = plan.settings.words or _WORDS
    made = found.requests * asker.candidates_a_request * (words * _TOKENS_A_WORD + _TOKENS_AROUND)
    usage = Usage(round(found.characters / CHARACTERS_A_TOKEN), round(made))
    assumptions = [
        f"{CHARACTERS_A_TOKEN} characters of a prompt are a token, a response has {words} words (--words)",
        "every reply is readable and complete: what is asked again comes on top",
    ]
    if usual is not None:
        usage = Usage(found.requests * usual.prompt_tokens, found.requests * usual.completion_tokens)
        assumptions[0] = (
            f"a request takes {usual.prompt_tokens:,} + {usual.completion_tokens:,} tokens, as the last ones in "
            f"the ledger {path.name} did"
        )
    price = plan.price
    if price is not None:
        assumptions.append(f"${price.input:g} and ${price.output:g} per million tokens ({price.source})")
    return {
        "prompts": found.prompts,
        "requests": found.requests,
        "from_ledger": found.from_ledger,
        "tokens": usage.total_tokens,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "usd": None if price is None else price.cost(usage),
        "bad_rows": found.bad_rows,
        "first_bad_row": found.first_bad_row,
        "assumptions": assumptions,
    }


@dataclass(slots=True)
class _Found:
    """What the rows add up to."""

    prompts: int = 0
    requests: int = 0
    from_ledger: int = 0
    characters: int = 0
    bad_rows: int = 0
    first_bad_row: str = ""

    def count(self, row: PromptRow, asker: PromptRunner, ledger: Ledger | None) -> None:
        self.prompts += 1
        for number in range(asker.calls):
            request = next(steps(asker.ask(row, number)))
            key = asker.caller.entry(request, (row.occurrence, number, 0)).key
            if ledger is not None and ledger.get(key) is not None:
                self.from_ledger += asker.requests_a_call
                continue
            self.requests += asker.requests_a_call
            self.characters += asker.requests_a_call * sum(len(message.content) for message in request.messages)


def _usual(ledger: Ledger, model: str) -> Usage | None:
    """The mean usage of the last replies of this model in the ledger."""
    total, count = Usage(), 0
    where = "json_extract(request, '$.model') = ? ORDER BY rowid DESC LIMIT ?"
    for row in ledger.rows(f"SELECT reply FROM reply WHERE {where}", model, _SAMPLED_REPLIES):
        total += reply_of(row["reply"]).usage
        count += 1
    return Usage(total.prompt_tokens // count, total.completion_tokens // count) if count else None
