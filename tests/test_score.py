"""The likelihood of given texts: in this process, from a server, and with a ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.cli.app import app
from outspoken.engine import score_all
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.ledger import Ledger
from outspoken.models import get_model
from outspoken.models._prompt_logprobs import read_echo
from outspoken.models.base import Capabilities, Model, Score
from outspoken.models.local import Local
from outspoken.models.openai_compatible import OpenAICompatible
from tests.servers import serving

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outspoken.models import _causal_lm, weight_files  # noqa: E402
from outspoken.models._batched_scoring import BatchedScorer, TokenSequence  # noqa: E402
from outspoken.models.transformers import Transformers, TransformersSettings  # noqa: E402

RECORDED = json.loads((Path(__file__).parent / "data" / "echo_vllm.json").read_text(encoding="utf-8"))
PAIRS = [
    ("Name a US state.", " Texas"),
    ("Name a US state.", " California, of course: it has the most people of all of them."),
    ("The capital of France is", " Paris."),
    ("The capital of France is", " Lyon."),
    ("The capital of France is", " a city on the Seine, and its name is Paris. " * 8),
    ("我喜欢吃", "寿司和🍕🍕。"),
    ("عاصمة فرنسا هي", " باريس"),
    ("New Yo", "rk City is large."),
    ("A long story. " * 40, "The end."),
    ("A long story. " * 40, "It goes on 👩‍👩‍👧 and on."),
]


@pytest.fixture(scope="module")
def unpacked() -> Path:
    """The embedded model as a folder of safetensors in bfloat16."""
    return _causal_lm._unpacked(weight_files.get("smollm2"), "bfloat16")


@pytest.fixture(scope="module")
def exact(unpacked: Path) -> Iterator[Transformers]:
    model = Transformers(unpacked, TransformersSettings(dtype="float32"))
    yield model
    asyncio.run(model.aclose())


def by_hand(model: Transformers, prompt: str, continuation: str) -> list[float]:
    """A plain loop: the whole text through the whole model, and the tokens of the continuation."""
    causal = model._loaded
    assert causal is not None
    coded = causal._tokenizer(prompt + continuation, return_offsets_mapping=True)
    ids = torch.tensor([coded["input_ids"]])
    with torch.inference_mode():
        table = causal.scorer._model(ids).logits[0].log_softmax(-1)
    return [
        float(table[at - 1, ids[0, at]])
        for at, (_, end) in enumerate(coded["offset_mapping"])
        if end > len(prompt) and at
    ]


async def test_a_batch_equals_a_plain_loop(exact: Transformers) -> None:
    found = await exact.scores(PAIRS)
    for (prompt, continuation), score in zip(PAIRS, found, strict=True):
        assert isinstance(score, Score)
        assert score.logprobs == pytest.approx(by_hand(exact, prompt, continuation), abs=2e-4)
        assert score.mean == pytest.approx(score.total / len(score))
        alone = await exact.score(prompt, continuation)
        assert alone.logprobs == pytest.approx(score.logprobs, abs=2e-4)
        assert alone.tokens == score.tokens


async def test_bfloat16_is_near(exact: Transformers, unpacked: Path) -> None:
    rough = Transformers(unpacked)
    for fine, near in zip(await exact.scores(PAIRS), await rough.scores(PAIRS), strict=True):
        assert isinstance(fine, Score)
        assert isinstance(near, Score)
        assert near.mean == pytest.approx(fine.mean, abs=0.1)
    await rough.aclose()


async def test_tokens_after_the_boundary_count(exact: Transformers) -> None:
    within = await exact.score("New Yo", "rk City")
    assert within.joined
    assert within.tokens == (" York", " City")
    between = await exact.score("New", " York City")
    assert not between.joined
    assert between.logprobs == pytest.approx(within.logprobs, abs=1e-4)
    spaced = await exact.score("New ", "York City")
    assert spaced.joined
    assert "".join(spaced.tokens) == " York City"


async def test_log_likelihoods_of_parts_add_up(exact: Transformers) -> None:
    whole = await exact.score("The", " capital of France")
    first, second = await exact.score("The", " capital"), await exact.score("The capital", " of France")
    assert whole.total == pytest.approx(first.total + second.total, abs=1e-3)


async def test_errors_take_the_place_of_scores(exact: Transformers, unpacked: Path) -> None:
    short = Transformers(unpacked, TransformersSettings(dtype="float32", context=12))
    found = await short.scores([("Hi", " you"), ("word " * 20, "end"), ("Hi", ""), ("", "Hello"), ("a", "\ud83d")])
    assert isinstance(found[0], Score)
    assert isinstance(found[1], PromptTooLongError)
    assert "21 tokens" in str(found[1]) or "22 tokens" in str(found[1])
    assert [type(each) for each in found[2:]] == [UsageError] * 3
    assert ["empty" in str(found[2]), "first token" in str(found[3]), "surrogate" in str(found[4])] == [True] * 3
    with pytest.raises(PromptTooLongError):
        await short.score("word " * 20, "end")
    await short.aclose()
    with pytest.raises(UsageError, match="closed"):
        await short.score("Hi", " you")


def test_models_that_change_their_logits_run_with_their_head(unpacked: Path) -> None:
    """If the logits are not the hidden state times the output layer, the model computes them."""
    causal = _causal_lm.load(str(unpacked), "float32", offline=True)
    assert causal.scorer._apply_head_separately
    plain = causal.scorer.logprobs([TokenSequence((1, 5, 9, 20), 2), TokenSequence((1, 5, 9, 21, 4), 2)])
    model = causal.scorer._model
    head, forward = model.get_output_embeddings(), model.forward

    def capped(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        out.logits = 5 * torch.tanh(out.logits / 5)
        return out

    model.forward = capped
    scorer = BatchedScorer(model, causal.scorer._new_cache)
    assert not scorer._apply_head_separately
    softer = scorer.logprobs([TokenSequence((1, 5, 9, 20), 2), TokenSequence((1, 5, 9, 21, 4), 2)])
    with torch.inference_mode():
        table = model(torch.tensor([[1, 5, 9, 20]])).logits[0].log_softmax(-1)
    assert softer[0] == pytest.approx([float(table[1, 9]), float(table[2, 20])], abs=1e-4)
    assert softer[0] != pytest.approx(plain[0], abs=0.1)
    assert head is model.get_output_embeddings()


async def test_local_models_score_through_transformers(smollm2: Local, unpacked: Path) -> None:
    assert smollm2.capabilities.score
    score = await smollm2.score("The capital of France is", " Paris")
    folder = Transformers(unpacked)
    assert score.logprobs == pytest.approx((await folder.score("The capital of France is", " Paris")).logprobs)
    assert "bfloat16" in await smollm2.score_identity()
    text = await smollm2.chat_text("Name a US state. 你好")
    assert "你好" in text
    assert text.rstrip().endswith("assistant")
    await folder.aclose()


def test_names(tmp_path: Path) -> None:
    model = get_model("transformers/gemma3-270m?dtype=float32&context=64")
    assert model.name == "transformers/gemma3-270m?dtype=float32"
    for bad in ("transformers/x?dtype=int4", "transformers/x?dtpye=float32", "transformers/x?context=many"):
        with pytest.raises(UsageError):
            get_model(bad)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be loaded"):
        asyncio.run(Transformers(tmp_path).score("a", "b"))
    with pytest.raises(UsageError, match="does not answer"):
        asyncio.run(model.complete(ChatRequest(())))


def test_a_folder_may_be_named_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert _causal_lm.loadable_source("~/model", "bfloat16", offline=True) == str(tmp_path / "model")
    with pytest.raises(UsageError, match="does not exist"):
        _causal_lm.loadable_source("~/other", "bfloat16", offline=True)


# From a server.


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_answers_of_vllm(name: str) -> None:
    """Recorded from vLLM 0.32 with SmolLM2 (no beginning-of-text mark) and Gemma (with one), in float32."""
    text, response = RECORDED[name]["text"], RECORDED[name]["response"]
    logprobs = response["choices"][0]["logprobs"]
    sizes = []
    for cut in range(5, len(text)):
        score = read_echo(response, text[:cut], text[cut:], "the server")
        first = logprobs["token_logprobs"].index(score.logprobs[0])
        assert list(score.logprobs) == logprobs["token_logprobs"][first : first + len(score)]
        assert text[cut:].startswith(score.tokens[0]) != score.joined
        assert text.endswith(score.tokens[-1])
        sizes.append(len(score))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1


@pytest.mark.parametrize("name", [name for name in sorted(RECORDED) if name.startswith("smol-")])
async def test_vllm_and_transformers_agree_on_the_same_weights(name: str, exact: Transformers) -> None:
    text, response = RECORDED[name]["text"], RECORDED[name]["response"]
    for cut in (len(text) // 2, len(text) - 1):
        theirs = read_echo(response, text[:cut], text[cut:], "the server")
        ours = await exact.score(text[:cut], text[cut:])
        assert theirs.logprobs == pytest.approx(ours.logprobs, abs=1e-3)
        assert theirs.joined == ours.joined
        # vLLM does not separate a space from the first part of the character after it.
        assert [token.strip() for token in theirs.tokens] == [token.strip() for token in ours.tokens]


async def test_a_server_that_echoes(exact: Transformers) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        assert body["echo"] is True
        assert body["logprobs"] == 1
        text = body["prompt"]
        if len(text) > 500:
            error = {"message": "maximum context length is 1024 tokens", "param": "input_tokens", "code": 400}
            return web.json_response({"error": {**error, "type": "BadRequestError"}}, status=400)
        # The first token has no log-probability; the others equal those of the model in this process.
        first = text.split(" ")[0]
        score = await exact.score(first, text.removeprefix(first))
        logprobs = {"tokens": [first, *score.tokens, "!"], "token_logprobs": [None, *score.logprobs, -1.0]}
        return web.json_response({"choices": [{"index": 0, "text": text + "!", "logprobs": logprobs}]})

    pairs = [pair for pair in PAIRS if pair[1].isascii() and not pair[0].startswith("New")]
    async with serving(answer) as served:
        model = OpenAICompatible(served.base_url, "m")
        found = await score_all(model, pairs)
        ours = await exact.scores(pairs)
        for (prompt, text), theirs, mine in zip(pairs, found, ours, strict=True):
            if len(prompt + text) > 500:
                assert isinstance(theirs, PromptTooLongError)
            else:
                assert isinstance(theirs, Score)
                assert isinstance(mine, Score)
                assert theirs.logprobs == pytest.approx(mine.logprobs, abs=2e-3)
        assert {str(request.rel_url) for request in served.requests} == {"/v1/completions"}
        await model.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"text": "Paris"}]},
        {"choices": [{"text": "x", "logprobs": {"content": [{"token": "x", "logprob": -1}]}}]},
        {"choices": [{"text": "x", "logprobs": {"tokens": ["x"], "token_logprobs": [-1.0]}}]},
        {"choices": []},
        [],
    ],
)
async def test_a_server_that_does_not_echo(answer: Any) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(answer)

    async with serving(handler) as served:
        model = OpenAICompatible(served.base_url, "m")
        with pytest.raises(UsageError, match="echo"):
            await model.score("The capital of France is", " Paris")
        await model.aclose()


# Many texts, with a ledger.


class Counting(Model):
    """Scores a text by its length, and counts requests."""

    name = "test/counting"
    capabilities = Capabilities(score=True)

    def __init__(self, *failures: Exception, stop_after: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.stuck = asyncio.Event()
        self._failures = list(failures)
        self._stop_after = stop_after

    async def complete(self, request: ChatRequest) -> ChatReply:
        raise NotImplementedError

    async def scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        if self._stop_after is not None and len(self.asked) >= self._stop_after:
            self.stuck.set()
            await asyncio.sleep(60)
        if self._failures:
            raise self._failures.pop(0)
        self.asked += asked
        return [Score((-float(len(text)),), (text,)) if text else UsageError("empty") for _, text in asked]


async def test_nothing_is_scored_twice(tmp_path: Path) -> None:
    pairs = [(f"prompt {at % 7} 你好", f" text {at} 🎉") for at in range(40)] + [
        ("a", ""),
        ("prompt 0 你好", " text 0 🎉"),
    ]
    steps: list[tuple[int, int]] = []
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = Counting()
        found = await score_all(first, pairs, ledger=ledger, progress=lambda *step: steps.append(step))
        assert len(first.asked) == 41
        assert steps[0] == (0, 41)
        assert steps[-1] == (41, 41)
        assert isinstance(found[-2], UsageError)
        assert found[-1] == found[0]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        again = Counting()
        assert [str(each) for each in await score_all(again, pairs, ledger=ledger)] == [
            str(each) for each in found
        ]
        assert again.asked == [("a", "")]
    checked = CliRunner().invoke(app, ["ledger", "verify", str(tmp_path / "l.sqlite")])
    assert checked.exit_code == 0, checked.output


async def test_scores_before_an_interruption_are_kept(tmp_path: Path) -> None:
    pairs = [(f"prompt {at}", " text") for at in range(20)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = Counting(stop_after=5)
        scoring = asyncio.create_task(score_all(first, pairs, ledger=ledger, concurrency=1))
        await first.stuck.wait()
        scoring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scoring
    with Ledger(tmp_path / "l.sqlite") as ledger:
        again = Counting()
        await score_all(again, pairs, ledger=ledger)
    assert len(first.asked) == 5
    assert sorted(first.asked + again.asked) == sorted(pairs)


async def test_transient_errors_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outspoken.engine.retry._FIRST_WAIT", 0.001)
    busy = ProviderError("busy", status=503, retryable=True)
    model = Counting(busy, ProviderError("reset", retryable=True))
    assert len(await score_all(model, [("a", "b"), ("c", "d")])) == 2
    with pytest.raises(ProviderError, match="broken"):
        await score_all(Counting(ProviderError("broken", status=500)), [("a", "b")])
    with pytest.raises(UsageError, match="cannot score"):
        await score_all(Silent(), [("a", "b")])


class Silent(Counting):
    capabilities = Capabilities()


def test_the_command(smollm2: Local, tmp_path: Path) -> None:
    states = tmp_path / "states.json"
    states.write_text('{"Texas": 3, "Ohio": 1, "Nowhere": 1}')
    prompt = "The largest state by area after Alaska is"
    named = ["--answers", str(states), "--model", "local/smollm2", "--json", "--out", str(tmp_path / "base.json")]
    done = CliRunner().invoke(app, ["score", prompt, *named])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    shares = {entry["text"].strip(): entry["share"] for entry in document["texts"]}
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "Texas"
    assert json.loads((tmp_path / "base.json").read_text()) == pytest.approx(shares)
    shown = CliRunner().invoke(app, ["score", "The capital of France is", " Paris", "--model", "local/smollm2"])
    assert shown.exit_code == 0
    assert "Paris" in shown.output
    both = CliRunner().invoke(app, ["score", "a", " b", "--answers", str(states)])
    assert both.exit_code == 2
