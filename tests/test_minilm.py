"""all-MiniLM-L6-v2 as a GGUF file: the conversion against a plain forward pass, the model against recorded truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")
special = pytest.importorskip("scipy.special")

from outspoken.models import minilm as conversion  # noqa: E402
from outspoken.models import weight_files  # noqa: E402
from outspoken.models.local import Local, LocalSettings  # noqa: E402

TRUTH = json.loads((Path(__file__).parent / "data" / "minilm.json").read_text("utf-8"))
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tea", "##cup", "is", "hot", "茶", "é", "."]
HIDDEN, INNER, LAYERS, HEADS = 384, 1536, 6, 12


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "embeddings.word_embeddings.weight", (len(WORDS), HIDDEN)
    yield "embeddings.position_embeddings.weight", (512, HIDDEN)
    yield "embeddings.token_type_embeddings.weight", (2, HIDDEN)
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            yield f"{at}.{name}.weight", (HIDDEN, HIDDEN)
            yield f"{at}.{name}.bias", (HIDDEN,)
        yield f"{at}.intermediate.dense.weight", (INNER, HIDDEN)
        yield f"{at}.intermediate.dense.bias", (INNER,)
        yield f"{at}.output.dense.weight", (HIDDEN, INNER)
        yield f"{at}.output.dense.bias", (HIDDEN,)
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for norm in norms:
        yield f"{norm}.weight", (HIDDEN,)
        yield f"{norm}.bias", (HIDDEN,)
    yield "pooler.dense.weight", (HIDDEN, HIDDEN)


def safetensors(arrays: dict[str, Any]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, values in arrays.items():
        kind = {"float32": "F32", "int64": "I64"}[values.dtype.name]
        header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + b"".join(values.tobytes() for values in arrays.values())


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    """Weights of which every part changes the result."""
    made = {}
    random = np.random.default_rng(7)
    for name, shape in shapes():
        scale = 0.5 if "embeddings" in name else 0.08
        made[name] = random.normal(0, scale, shape).astype(np.float32)
        if "LayerNorm.weight" in name:
            made[name] = (1 + made[name]).astype(np.float32)
    return made | {"embeddings.position_ids": np.arange(512, dtype=np.int64)[None]}


@pytest.fixture(scope="module")
def made(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "source").write_bytes(safetensors(arrays) + "\n".join([*WORDS, ""]).encode())
    conversion.convert(folder / "source", folder / "made.gguf")
    return folder / "made.gguf"


def forward(weights: dict[str, Any], ids: list[int]) -> Any:
    """BERT (Devlin et al. 2019) with the mean of the last layer, at length 1, in float32."""

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: Any) -> Any:
        return x.reshape(len(ids), HEADS, -1).transpose(1, 0, 2)

    table = "embeddings.{}_embeddings.weight".format
    x = weights[table("word")][ids] + weights[table("position")][: len(ids)] + weights[table("token_type")][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query, key, value = (heads(linear(x, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
        seen = special.softmax(query @ key.transpose(0, 2, 1) / np.sqrt(HIDDEN / HEADS), axis=-1) @ value
        seen = seen.transpose(1, 0, 2).reshape(len(ids), HIDDEN)
        x = norm(x + linear(seen, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + special.erf(inner / np.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Tea is hot.", ["tea", "is", "hot", "."]),
        ("teacup", ["tea", "##cup"]),
        ("HOT  TEACUP\nis", ["hot", "tea", "##cup", "is"]),
        ("茶茶", ["茶", "茶"]),
        ("unheard is", ["[UNK]", "is"]),
    ],
)
async def test_the_converted_model_equals_bert(
    made: Path, arrays: dict[str, Any], text: str, words: list[str]
) -> None:
    pytest.importorskip("xllamacpp")
    model = Local(made, LocalSettings(slots=1))
    (vector,) = (await model.embed([text])).vectors
    await model.aclose()
    ids = [WORDS.index(word) for word in ("[CLS]", *words, "[SEP]")]
    assert np.dot(forward(arrays, ids), vector) > 0.999
    assert np.dot(forward(arrays, ids[:-1]), vector) < 0.99


def test_contents_of_the_file(made: Path, arrays: dict[str, Any]) -> None:
    reader = gguf.GGUFReader(made)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert len(found) == sum(values.dtype == np.float32 for values in arrays.values()) - 1  # without the pooler
    query = found["blk.2.attn_q.weight"]
    assert query.tensor_type == gguf.GGMLQuantizationType.Q8_0
    exact = arrays["encoder.layer.2.attention.self.query.weight"]
    assert np.abs(gguf.quants.dequantize(query.data, query.tensor_type) - exact).max() < 0.003
    assert found["blk.2.attn_q.bias"].tensor_type == gguf.GGMLQuantizationType.F32
    assert (found["position_embd.weight"].data == arrays["embeddings.position_embeddings.weight"]).all()


def test_reading_safetensors() -> None:
    given = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([1, 2]), "b": np.float32([7])}
    found, rest = conversion.tensors(safetensors(given) + "the rest ☕".encode())
    assert {name: values.tolist() for name, values in found.items()} == {"a": [[0, 1, 2], [3, 4, 5]], "b": [7]}
    assert rest.decode() == "the rest ☕"


async def test_the_model_against_sentence_transformers(minilm: Local) -> None:
    """`data/minilm.json` holds what sentence-transformers computed in float32 from the same weights."""
    vectors = np.array((await minilm.embed(TRUTH["texts"])).vectors)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(vectors @ vectors.T - np.array(TRUTH["cosines"])).max() < 0.02
    assert np.abs(vectors[:, : len(TRUTH["beginnings"][0])] - np.array(TRUTH["beginnings"])).max() < 0.02


async def test_the_file_is_the_converted_one(minilm: Local) -> None:
    await minilm.load()
    row = weight_files.TABLE["minilm"]
    assert weight_files.verify("minilm")
    assert await minilm.digest() == row.file_sha256
    assert "apache-2.0" in (row.path.with_name(f"{row.filename}.licence") / "README.md").read_text("utf-8")
