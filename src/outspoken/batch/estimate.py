"""An estimate of a job before anything is asked: requests, tokens, money."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from outspoken.batch.file import BatchJob, ledger_beside
from outspoken.batch.output import Output
from outspoken.batch.plan import RunEngine
from outspoken.batch.sources import BadRow
from outspoken.chat_reply import Usage
from outspoken.engine import CHARACTERS_PER_TOKEN, RunMetrics
from outspoken.ledger import Ledger, reply_of

__all__ = ["JobEstimate", "estimate"]

_WORDS = 60
_TOKENS_PER_WORD = 1.4
_TOKENS_AROUND_A_RESPONSE = 20
_SAMPLED_REPLIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEstimate:
    """The expected requests, tokens and cost of a job, and the `assumptions` behind them as sentences.

    `from_ledger` requests have been answered and are not among `requests`. `usd` is None if the price is unknown.
    """

    prompts: int
    requests: int
    from_ledger: int
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    bad_rows: int
    first_bad_row: str
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def estimate(job: BatchJob) -> JobEstimate:
    """Estimate a job. Sends nothing and writes nothing.

    Raises the errors that the job would raise for its prompts and its ledger.
    """
    plan = job.plan
    path = Path(job.ledger) if job.ledger else ledger_beside(Output(job.out).path)
    with Ledger(path) if path.is_file() else nullcontext() as ledger:
        engine, first_bad_row = RunEngine(plan, RunMetrics(), ledger), ""
        runner = engine.runner
        prompts = bad_rows = calls = calls_in_ledger = characters = 0
        for row in job.rows():
            if isinstance(row, BadRow):
                bad_rows += 1
                first_bad_row = first_bad_row or f"{row.where}: {row.reason}"
                continue
            prompts += 1
            for request, stored in engine.first_requests(row, plan.model.name):
                calls_in_ledger += stored
                if not stored:
                    calls += 1
                    characters += sum(len(message.content) for message in request.messages)
        mean = None if ledger is None else _mean_usage(ledger, plan.model.name)
    words = plan.settings.words or _WORDS
    per_response = words * _TOKENS_PER_WORD + _TOKENS_AROUND_A_RESPONSE
    requests = calls * runner.requests_per_call
    completion = requests * runner.candidates_per_request * per_response
    usage = Usage(round(characters * runner.requests_per_call / CHARACTERS_PER_TOKEN), round(completion))
    assumptions = [
        f"{CHARACTERS_PER_TOKEN} characters of a prompt are a token, a response has {words} words (--words)",
        "every reply is readable and complete: repeated requests cost more",
    ]
    if mean is not None:
        usage = Usage(requests * mean.prompt_tokens, requests * mean.completion_tokens)
        assumptions[0] = (
            f"a request takes {mean.prompt_tokens:,} + {mean.completion_tokens:,} tokens, as the last ones in the "
            f"ledger {path.name} did"
        )
    price = plan.price
    if price is not None:
        assumptions.append(f"${price.input:g} and ${price.output:g} per million tokens ({price.source})")
    return JobEstimate(
        prompts=prompts,
        requests=requests,
        from_ledger=calls_in_ledger * runner.requests_per_call,
        tokens=usage.total_tokens,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=None if price is None else price.cost(usage),
        bad_rows=bad_rows,
        first_bad_row=first_bad_row,
        assumptions=tuple(assumptions),
    )


def _mean_usage(ledger: Ledger, model: str) -> Usage | None:
    """The mean usage of the last replies of this model in the ledger."""
    total, count = Usage(), 0
    where = "json_extract(request, '$.model') = ? ORDER BY rowid DESC LIMIT ?"
    for row in ledger.rows(f"SELECT reply FROM reply WHERE {where}", model, _SAMPLED_REPLIES):
        total += reply_of(row["reply"]).usage
        count += 1
    return Usage(total.prompt_tokens // count, total.completion_tokens // count) if count else None
