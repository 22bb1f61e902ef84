"""The parts of a run over Ray, without Ray: shards on disk, shares of the budget, the sum of the figures of workers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.batch.ray.cluster import MessageBoard, Orders, WorkerReport
from outspoken.batch.ray.shards import ShardLayout, Shards, ShardSource
from outspoken.batch.ray.shares import BudgetShares, ShareRequest, WorkerTotals, as_used_up
from outspoken.batch.sources import BadRow, PromptRow, read
from outspoken.chat import Message
from outspoken.chat_reply import Usage
from outspoken.engine import Budget, RunMetrics
from outspoken.errors import OutputError, UsageError
from outspoken.prices import Price

# Shards


@pytest.mark.parametrize("workers", [1, 2, 64])
@pytest.mark.parametrize("count", [1, 7, 200, 8_000, 100_000])
def test_every_worker_gets_several_shards_and_none_is_too_large(count: int, workers: int):
    layout = ShardLayout.of(range(count), workers)
    assert 1 <= layout.rows_per_part <= 1000
    assert layout.rows_per_shard <= 10_000
    assert -(-count // layout.rows_per_shard) >= min(count, 2 * workers)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(max_size=3) | st.just("\0"), inner),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values), min_size=1, max_size=7)
)
def test_rows_come_out_of_shards_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, columns: list[Any]):
    shards = Shards(tmp_path_factory.mktemp("shards") / "out")
    given_rows: list[PromptRow | BadRow] = [
        PromptRow(number, f"é:{number}", f"号{number}", (Message("user", "讲个笑话"),), each, number % 2)
        for number, each in enumerate(columns)
    ]
    given_rows.append(BadRow(len(given_rows), "x:\udcff9", "lone surrogate \ud800"))
    shards.divide(iter(given_rows), ShardLayout(2, 2), ShardSource(1, "", ".jsonl"), lambda: True)
    again = Shards(shards.folder.with_name("out"))
    assert again.manifest.shards == -(-len(given_rows) // 4)
    found = [row for shard in range(again.manifest.shards) for row in again.rows(shard)]
    assert list(map(repr, found)) == list(map(repr, given_rows))


def test_a_value_that_cannot_travel_is_refused(tmp_path: Path):
    row = PromptRow(0, "a.parquet: row 1", "1", (Message("user", "x"),), {"thing": object()})
    with pytest.raises(UsageError, match=r"a\.parquet: row 1: a column cannot be carried"):
        Shards(tmp_path / "out").divide(iter([row]), ShardLayout(1, 1), ShardSource(1, "", ""), lambda: True)
    assert Shards(tmp_path / "out").manifest.source is None


def test_cutting_that_was_broken_off_keeps_how_it_was_cut(tmp_path: Path):
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(f'{{"prompt": "茶 {number}"}}\n' for number in range(40)), encoding="utf-8")
    of = ShardSource.of(source, None, None)
    steps = iter([True, True, False])
    Shards(tmp_path / "out").divide(read(source), ShardLayout(3, 2), of, lambda: next(steps))
    again = Shards(tmp_path / "out")
    assert (again.manifest.layout, again.manifest.source) == (ShardLayout(3, 2), None)
    assert not again.agrees(source, of)


def test_a_manifest_that_cannot_be_read_says_so(tmp_path: Path):
    folder = tmp_path / "out.shards"
    folder.mkdir()
    for text, message in (("{", "cannot be read"), ('{"version": 99}', "newer version")):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(UsageError, match=message):
            Shards(tmp_path / "out")


def test_a_shard_is_held_by_one_process_until_it_dies(tmp_path: Path):
    shards = Shards(tmp_path / "out")
    shards.divide(iter([BadRow(0, "x", "y")]), ShardLayout(1, 1), ShardSource(1, "", ""), lambda: True)
    script = (
        "import sys, pathlib\nfrom outspoken.batch.ray.shards import Shards\n"
        "lock = Shards(pathlib.Path(sys.argv[1])).lock(0)\nprint(lock is not None, flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert shards.lock(0) is None
        other.kill()
    lock = shards.lock(0)
    assert lock is not None
    with lock:
        assert shards.lock(0) is None
    shards.path(0, ".lock").unlink()
    shards.path(0, ".lock").mkdir()
    with pytest.raises(OutputError, match="cannot be locked"):
        shards.lock(0)


# Shares of the budget, and the sum of the metrics of all workers


def tokens(count: int) -> RunMetrics:
    return RunMetrics(requests=1, usage=Usage(count, 0))


def shares(totals: WorkerTotals, budget: Budget, rows: dict[int, int], price: Price | None = None) -> BudgetShares:
    divided = BudgetShares(budget, price, totals.usage)
    divided.begin(rows)
    return divided


@given(
    st.integers(100, 10_000),
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 50), st.floats(0, 1), st.booleans()), min_size=1, max_size=40
    ),
)
def test_all_shares_together_never_exceed_the_budget(budget: int, attempts: list[tuple[int, int, float, bool]]):
    totals = WorkerTotals()
    divided = shares(totals, Budget(tokens=budget), {at: rows for at, (rows, *_) in enumerate(attempts)})
    promised: dict[str, int] = {}
    for shard, (rows, request, used, ends) in enumerate(attempts):
        spent, name = totals.sum(None).usage, str(shard)
        share = divided.share(name, shard, ShareRequest(rows, Usage(request)), spent)
        assert divided.share(name, shard, ShareRequest(rows, Usage(request)), spent) == share or isinstance(
            share, str
        )
        if isinstance(share, str):
            assert share == f"the budget of {budget:,} tokens does not suffice for another request"
            assert budget - spent.total_tokens - sum(promised.values()) < request
            continue
        assert share.tokens is not None
        assert share.tokens >= request or rows == 0
        cost = int(used * share.tokens) if rows else 0
        totals.update(name, shard, tokens(cost), 1)
        promised[name] = (share.tokens if rows else 0) - cost
        if ends:
            divided.end(name, shard)
            del promised[name]
        assert totals.sum(None).usage.total_tokens + sum(promised.values()) <= budget


def test_a_share_is_in_proportion_to_the_rows_that_are_still_to_be_asked():
    totals = WorkerTotals()
    divided = shares(totals, Budget(tokens=1000), {0: 10, 1: 10, 2: 20})
    one = ShareRequest(10, Usage(5))
    assert divided.share("a", 0, one, Usage()) == Budget(tokens=250)
    # A shard whose parts are complete needs nothing, and leaves its part to the others.
    nothing = divided.share("b", 1, ShareRequest(0, Usage(5)), Usage())
    assert isinstance(nothing, Budget)
    assert nothing.tokens == 1
    totals.update("a", 0, tokens(50), 0)
    divided.end("b", 1)
    divided.end("a", 0)
    assert divided.share("c", 2, ShareRequest(20, Usage(5)), Usage(50)) == Budget(tokens=950)
    assert not divided.worth_a_round(Usage(50))
    divided.end("c", 2)
    assert divided.worth_a_round(Usage(50))
    assert not divided.worth_a_round(Usage(960))


def test_what_a_dead_worker_did_not_spend_is_left_when_its_shard_is_begun_again():
    totals = WorkerTotals()
    divided = shares(totals, Budget(tokens=1000), {0: 10})
    assert divided.share("first", 0, ShareRequest(10, Usage(900)), Usage()) == Budget(tokens=1000)
    totals.update("first", 0, tokens(300), 2)
    assert divided.share("second", 0, ShareRequest(10, Usage(1)), Usage(300)) == Budget(tokens=700)
    divided.end("first", 0)  # late news of the dead
    assert (
        divided.share("other", 1, ShareRequest(1, Usage(1)), Usage(300))
        == "the budget of 1,000 tokens does not suffice for another request"
    )


def test_a_share_of_dollars():
    price = Price(1.0, 1.0)
    divided = shares(WorkerTotals(), Budget(usd=1.0), {0: 1, 1: 1}, price)
    spent = Usage(750_000)
    assert divided.share("a", 0, ShareRequest(1, Usage(5)), spent) == Budget(usd=0.125)
    refused = divided.share("b", 1, ShareRequest(1, Usage(500_000)), spent)
    assert refused == "the budget of 1 US dollars does not suffice for another request"
    assert (
        as_used_up(
            "the budget of 0.125 US dollars does not suffice for another request",
            Budget(usd=0.125),
            Budget(usd=1.0),
        )
        == refused
    )
    assert as_used_up("interrupted", Budget(usd=0.125), Budget(usd=1.0)) == ""


def test_the_board_passes_on_reports_orders_and_shares():
    board = MessageBoard()
    report = WorkerReport(0, tokens(5), 1)
    assert board.report("a", report) == Orders()  # the driver has not come yet
    assert board.poll(Orders("interrupted"), {}) == {"a": report}
    assert board.poll(Orders("interrupted", True), {"a": Budget(tokens=7)}) == {}
    assert board.report("a", report) == Orders("interrupted", True)
    asking = WorkerReport(0, tokens(5), 1, ShareRequest(3, Usage(1)))
    assert board.report("a", asking) == Orders("interrupted", True, Budget(tokens=7))
    assert board.poll(Orders(), {}) == {"a": asking}
    assert board.report("b", asking).share is None


def test_figures_of_a_shard_that_was_begun_twice():
    figures, price = WorkerTotals(), Price(1.0, 1.0)
    first, second = (
        RunMetrics(prompts=5, requests=5, bad_rows=1, usage=Usage(50, 5)),
        RunMetrics(requests=1, usage=Usage(9, 1)),
    )
    first.failures["HTTP 500"] = 2
    figures.update("a", 0, replace(first), 4)
    figures.update("b", 0, replace(second), 1)
    total = figures.sum(price)
    # What was paid for was paid for; what was done is counted by the attempt that does it.
    assert (total.prompts, total.bad_rows, total.failures, total.requests) == (0, 0, {}, 6)
    assert total.usage == Usage(59, 6)
    assert total.usd == pytest.approx(65e-6)
    assert sum(figures.under_way.values()) == 1
    second.prompts, second.from_ledger = 6, 5
    figures.update("b", 0, replace(second), 0)
    first.requests, first.prompts = 7, 7
    figures.update("a", 0, replace(first), 3)  # late news of the dead
    total = figures.sum(price)
    assert (total.prompts, total.from_ledger, total.requests) == (6, 5, 8)
    assert sum(figures.under_way.values()) == 0
