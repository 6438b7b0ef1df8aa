"""A tiny real embedder, made in a second, and documents with questions to train it on."""

from __future__ import annotations

import re
from pathlib import Path

from fti.store.contracts.prompt_contract import PromptForm
from fti.store.store import Store
from fti.store.types import DatasetVersion, EmbedderIdentity, InstructionExample, Split
from tests.support.tiny_model import TEXT
from tests.support.values import EMBEDDER, a_passage

FORM = PromptForm(system="", question_position="both")
THINGS = ("kiln", "lathe", "saw", "forge", "press", "loom", "drill", "oven", "bench", "anvil")
OWNERS = ("potter", "smith", "weaver", "baker", "joiner", "tanner", "cooper", "miller", "glazier",
          "mason")  # fmt: skip
#: What questions call them: nothing but training says which is which.
ALIASES = dict(
    zip(
        (*THINGS, *OWNERS),
        ("brennofen drehbank saege esse presse webstuhl bohrer herd werkbank amboss "
         "toepfer schmied weber baecker tischler gerber kuefer mueller glaser maurer").split(),
        strict=True,
    )
)  # fmt: skip


def make_tiny_embedder(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny BERT with mean pooling and random weights; the folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from fti.pipelines.engines.weights import quiet_loading

    # A vocabulary by hand: a trained one breaks ties otherwise in every process, and weights that
    # are drawn for it then differ too.
    written = re.findall(r"\w", "".join(TEXT).lower()) + list("?.,:>[]{}()'\"")
    letters = sorted({letter for letter in written if letter.isascii()})
    asked = "ask where is the of was moved things".split()
    words = sorted({*ALIASES, *ALIASES.values(), *asked})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    listed = [*special, *words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: n for n, piece in enumerate(dict.fromkeys(listed))}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config)
    bare = folder / "bare"
    with quiet_loading():
        model.save_pretrained(bare)
        tokenizer.save_pretrained(bare)
        first = Transformer(str(bare), max_seq_length=64)
        whole = SentenceTransformer(
            modules=[first, Pooling(32, pooling_mode="mean"), Normalize()], device="cpu"
        )
        whole.save_pretrained(str(folder / "tiny-embedder"), create_model_card=False)
    return folder / "tiny-embedder"


def pair_rows(split: Split, count: int) -> list[InstructionExample]:
    """Questions for things by other names, each with its passage and two about other things."""
    made = []
    for n in range(count):
        shift = 0 if split == "train" else 5  # held-out pairs of a thing and its owner
        thing, owner = THINGS[n % 10], OWNERS[(n // 10 + n + shift) % 10]
        other, another = THINGS[(n + 1) % 10], OWNERS[(n // 10 + n + shift + 3) % 10]
        passages = tuple(
            a_passage(text, chunk_id=f"c-{split}-{n}-{k}", rank=k, title="Things")
            for k, text in enumerate(
                (f"The {thing} of the {owner} was moved.",
                 f"The {other} of the {owner} was moved.",
                 f"The {thing} of the {another} was moved."), start=1,
            )
        )  # fmt: skip
        made.append(
            InstructionExample(
                id=f"{split}{n}", kind="case", answer="moved", passages=passages, citations=(1,),
                question=f"Where is the {ALIASES[thing]} of the {ALIASES[owner]}?",
                response=FORM.response("moved", (1,)), split=split, documents=(f"d-{split}",),
                chunk_ids=(passages[0].chunk_id,),
            )
        )  # fmt: skip
    return made


def pair_dataset(
    store: Store, *, train: int = 24, validation: int = 6, embedder: EmbedderIdentity = EMBEDDER
) -> DatasetVersion:
    """Publish such rows as ``finder-pairs``."""
    return store.datasets.publish(
        "finder-pairs",
        rows={
            "train": pair_rows("train", train),
            "validation": pair_rows("validation", validation),
        },
        features_version=3, embedder=embedder, prompt_digest=FORM.digest,
        run_id="r-20260101-000000-000000",
    )  # fmt: skip
