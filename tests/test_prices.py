from __future__ import annotations

import sys
from pathlib import Path

import pytest

from outspoken import UsageError
from outspoken.chat_reply import Usage
from outspoken.prices import Price, price_of


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / "prices.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_what_a_usage_costs() -> None:
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=500_000, cached_tokens=400_000)
    assert Price(2.0, 8.0, 0.5).cost(usage) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.5 * 8)
    assert Price(2.0, 8.0).cost(usage) == pytest.approx(2 + 4)
    assert Price(2.0, 8.0, 0.0).cost(usage) == pytest.approx(1.2 + 4)
    assert Price(2.0, 8.0).cost(Usage()) == 0


def test_more_cached_than_prompt_never_lowers_the_bill_below_zero() -> None:
    assert Price(2.0, 8.0, 0.5).cost(Usage(prompt_tokens=10, cached_tokens=50)) == pytest.approx(10 * 0.5e-6)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_users_prices(tmp_path: Path, mark: bytes) -> None:
    written = '["openai/gpt-4.1"]\ninput = 2\noutput = 8.0\ncached = 0.5\n["http://h:1/v1#模型"]\ninput = 1\noutput = 1\n'
    path = put(tmp_path, mark + written.encode())
    assert price_of("openai/gpt-4.1", path) == Price(2.0, 8.0, 0.5, str(path))
    assert price_of("http://h:1/v1#模型", str(path)) == Price(1.0, 1.0, None, str(path))
    assert price_of("http://h:1/v1#other", path) is None


def test_the_most_specific_name_wins(tmp_path: Path) -> None:
    entries = {
        "*": 1,
        "openai/*": 2,
        "openai/gpt-*": 3,
        "openai/gpt-?": 4,
        "openai/gpt-4.1": 5,
        "local/smol*": 6,
        "*[x]": 7,
        "q/*[x]": 8,
    }
    path = put(tmp_path, "".join(f'["{name}"]\ninput = {price}\noutput = 0\n' for name, price in entries.items()))
    expected = {
        "x/y": 1,
        "openai/o3": 2,
        "openai/gpt-4o": 3,
        "openai/gpt-4.1": 5,
        "OPENAI/gpt-4.1": 1,
        "local/smollm2": 6,
        "q/*[x]": 8,
        "b/x": 7,
    }
    for model, price in expected.items():
        found = price_of(model, path)
        assert found is not None
        assert found.input == price, model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["m"]\ninput = 1\n', '["m"] lacks output, in dollars per million tokens'),
        ('["m"]\n', "lacks input and output"),
        ('["m"]\ninput = 1\noutput = 2\ncache = 3\n', '["m"] has cache; known: input, output, cached'),
        ('["m"]\ninput = "1"\noutput = 2\n', "input must be a number of dollars from 0 up, not '1'"),
        ('["m"]\ninput = true\noutput = 2\n', "not True"),
        ('["m"]\ninput = nan\noutput = 2\n', "not nan"),
        ('["m"]\ninput = 1\noutput = inf\n', "not inf"),
        (
            '["m"]\ninput = 1\noutput = 2\ncached = -0.1\n',
            "cached must be a number of dollars from 0 up, not -0.1",
        ),
        ("[openai.gpt-4]\ninput = 1\noutput = 2\n", "put the whole name of a model in one pair of quotes"),
        ("input = 1\n", '["input"] must be a table'),
        ('["m"\n', "is not TOML"),
        (b'["\xff"]\n', "it is not UTF-8"),
    ],
)
def test_every_entry_is_checked_even_for_another_model(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        price_of("another/model", path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the file of prices .*: there is no such file"):
        price_of("openai/gpt-4.1", tmp_path / "none.toml")
    with pytest.raises(UsageError, match="it is a folder"):
        price_of("openai/gpt-4.1", tmp_path)


def test_local_models_cost_nothing_and_urls_are_unknown(tmp_path: Path) -> None:
    for model in ("local/smollm2", "local//home/me/model.gguf", "replay/file.jsonl"):
        price = price_of(model, put(tmp_path, ""))
        assert price is not None
        assert price.cost(Usage(10**9, 10**9)) == 0
    for model in ("http://localhost:8000/v1#gpt-4.1", "https://api.openai.com/v1#gpt-4.1", "gpt-4.1", "openai/"):
        assert price_of(model) is None


def test_published_prices() -> None:
    pytest.importorskip("genai_prices")
    price = price_of("openai/gpt-4.1")
    assert price is not None
    assert (price.input, price.output, price.cached) == (2.0, 8.0, 0.5)
    assert price.source.startswith("genai-prices ")
    assert price_of("openai/no-such-model") is None
    assert price_of("no-such-provider/gpt-4.1") is None
    assert price_of("vllm/gpt-4.1") is None


def test_prices_that_rise_with_the_prompt_start_at_the_lowest() -> None:
    types = pytest.importorskip("genai_prices.types")
    from outspoken.prices import _dollars

    tiered = types.TieredPrices(
        base=types.Decimal("3"), tiers=[types.Tier(start=200_000, price=types.Decimal("6"))]
    )
    assert _dollars(tiered) == 3.0


@pytest.mark.parametrize(
    "model", ["gemini/gemini-2.5-flash", "anthropic/claude-sonnet-4-5", "xai/grok-4", "openrouter/openai/gpt-4.1"]
)
def test_our_names_of_providers_are_theirs(model: str) -> None:
    pytest.importorskip("genai_prices")
    price = price_of(model)
    assert price is not None
    assert 0 < price.input < price.output


def test_without_the_library_the_price_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert price_of("openai/gpt-4.1") is None
    assert price_of("openai/gpt-4.1", put(tmp_path, '["openai/*"]\ninput = 1\noutput = 2\n')) is not None
