"""What a run over Ray is made of, without Ray: shards on disk, the budget that workers share, the sum of their figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.batch.prices import Price
from outspoken.batch.ray.budget_broker import BudgetBroker, WorkerTotals, flat
from outspoken.batch.ray.shards import ShardLayout, Shards, ShardSource
from outspoken.batch.sources import BadRow, PromptRow, read
from outspoken.chat import Message
from outspoken.chat_reply import Usage
from outspoken.engine import RunMetrics
from outspoken.errors import OutputError, UsageError

# Shards


@pytest.mark.parametrize("workers", [1, 2, 64])
@pytest.mark.parametrize("count", [1, 7, 200, 8_000, 100_000])
def test_every_worker_gets_several_shards_and_none_is_too_large(count: int, workers: int):
    layout = ShardLayout.of(range(count), workers)
    assert 1 <= layout.rows_a_part <= 1000
    assert layout.rows_a_shard <= 10_000
    assert -(-count // layout.rows_a_shard) >= min(count, 2 * workers)


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
    shards.cut(iter(given_rows), ShardLayout(2, 2), ShardSource(1, "", ".jsonl"), lambda: True)
    again = Shards(shards.folder.with_name("out"))
    assert again.count == -(-len(given_rows) // 4)
    found = [row for shard in range(again.count) for row in again.rows(shard)]
    assert list(map(repr, found)) == list(map(repr, given_rows))


def test_a_value_that_cannot_travel_is_refused(tmp_path: Path):
    row = PromptRow(0, "a.parquet: row 1", "1", (Message("user", "x"),), {"thing": object()})
    with pytest.raises(UsageError, match=r"a\.parquet: row 1: a column cannot be carried"):
        Shards(tmp_path / "out").cut(iter([row]), ShardLayout(1, 1), ShardSource(1, "", ""), lambda: True)
    assert Shards(tmp_path / "out").source is None


def test_cutting_that_was_broken_off_keeps_how_it_was_cut(tmp_path: Path):
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(f'{{"prompt": "茶 {number}"}}\n' for number in range(40)), encoding="utf-8")
    of = ShardSource.of(source, None, None)
    steps = iter([True, True, False])
    Shards(tmp_path / "out").cut(read(source), ShardLayout(3, 2), of, lambda: next(steps))
    again = Shards(tmp_path / "out")
    assert (again.layout, again.source) == (ShardLayout(3, 2), None)
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
    shards.cut(iter([BadRow(0, "x", "y")]), ShardLayout(1, 1), ShardSource(1, "", ""), lambda: True)
    script = (
        "import sys, pathlib\nfrom outspoken.batch.ray.shards import Shards\n"
        "lock = Shards(pathlib.Path(sys.argv[1])).hold(0)\nprint(lock is not None, flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert shards.hold(0) is None
        other.kill()
    lock = shards.hold(0)
    assert lock is not None
    with lock:
        assert shards.hold(0) is None
    shards.path(0, ".lock").unlink()
    shards.path(0, ".lock").mkdir()
    with pytest.raises(OutputError, match="cannot be locked"):
        shards.hold(0)


# The board, and the sum of what it hears


@given(
    st.integers(1, 5),
    st.integers(100, 10_000),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 300)), max_size=200),
)
def test_never_more_is_granted_than_the_budget(workers: int, budget: int, wishes: list[tuple[int, int]]):
    board = BudgetBroker()
    assert board.lease("a", (1.0, 0.0)) is None  # the driver has not come yet
    board.poll("", False, (budget, None), (0, 0.0), workers)
    granted: dict[str, float] = {}
    for worker, tokens in wishes:
        name = str(worker % workers)
        board.report(name, worker % workers, {}, (granted.get(name, 0.0) / 2, 0.0), 0, False)
        given_ = board.lease(name, (float(tokens), 0.0))
        if isinstance(given_, tuple):
            assert given_[0] >= tokens
            granted[name] = granted.get(name, 0.0) + given_[0]
        else:
            assert given_ == f"the budget of {budget:,} tokens is used up"
            assert board.poll("", False, (budget, None), (0, 0.0), workers)[0] == given_
        assert sum(granted.values()) <= budget


def test_what_a_dead_worker_was_granted_comes_back_when_its_shard_is_begun_anew():
    board = BudgetBroker()
    board.poll("", False, (1000, None), (0, 0.0), 1)
    board.report("first", 0, {}, (0, 0.0), 0, False)
    assert board.lease("first", (900.0, 0.0)) == (900.0, 0.0)
    board.report("first", 0, {}, (300, 0.0), 2, False)
    board.report("second", 0, {}, (0, 0.0), 0, False)
    assert board.lease("second", (700.0, 0.0)) == (700.0, 0.0)
    assert board.lease("second", (1.0, 0.0)) == "the budget of 1,000 tokens is used up"


def test_what_a_worker_that_was_given_up_spent_counts_once_should_it_live_on():
    board = BudgetBroker()
    board.poll("", False, (1000, None), (0, 0.0), 1)
    board.report("first", 0, {}, (0, 0.0), 0, False)
    assert board.lease("first", (300.0, 0.0)) == (300.0, 0.0)
    for _ in range(9):
        board.report("second", 0, {}, (0, 0.0), 0, False)
        board.report("first", 0, {}, (200, 0.0), 1, False)
    board.report("other", 1, {}, (0, 0.0), 0, False)
    assert board.lease("other", (700.0, 0.0)) == (700.0, 0.0)
    assert board.lease("first", (1.0, 0.0)) == "the budget of 1,000 tokens is used up"


def test_a_new_board_is_told_what_was_spent():
    board = BudgetBroker()
    board.poll("", False, (None, 1.0), (0, 0.75), 1)
    board.report("one", 0, {}, (0, 0.0), 0, False)
    assert board.lease("one", (5.0, 0.5)) == "the budget of 1 US dollars is used up"


def test_figures_of_a_shard_that_was_begun_twice():
    figures, price = WorkerTotals(), Price(1.0, 1.0)
    first, second = (
        RunMetrics(prompts=5, requests=5, bad_rows=1, usage=Usage(50, 5)),
        RunMetrics(requests=1, usage=Usage(9, 1)),
    )
    first.failures["HTTP 500"] = 2
    figures.take("a", 0, flat(first), 4)
    figures.take("b", 0, flat(second), 1)
    total = RunMetrics()
    figures.show(total, price)
    # What was paid for was paid for; what was done is counted by the attempt that does it.
    assert (total.prompts, total.bad_rows, total.failures, total.requests) == (0, 0, {}, 6)
    assert total.usage == Usage(59, 6)
    assert total.usd == pytest.approx(65e-6)
    assert figures.under_way == 1
    second.prompts, second.from_ledger = 6, 5
    figures.take("b", 0, flat(second), 0)
    first.requests, first.prompts = 7, 7
    figures.take("a", 0, flat(first), 3)  # late news of the dead
    figures.show(total, price)
    assert (total.prompts, total.from_ledger, total.requests, figures.under_way) == (6, 5, 8, 0)
