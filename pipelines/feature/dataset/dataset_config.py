"""How datasets are built."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fti.pipelines.engines.generator import GeneratorConfig
from fti.store.types import Value

Personal = Literal["email", "phone", "iban", "card", "ip"]
PERSONAL: tuple[Personal, ...] = ("email", "phone", "iban", "card", "ip")


class WriterConfig(Value):
    """How a language model writes questions about passages."""

    generator: GeneratorConfig | None = Field(
        default=None,
        description="The model that writes, in this process or behind an OpenAI-compatible server; "
        "null: the profile's own generator.",
    )
    questions: int = Field(default=3, ge=1, le=20, description="Asked of the model per passage.")
    max_passages: int | None = Field(
        default=None, ge=1, description="Most passages to write about, drawn by the seed."
    )
    max_new_tokens: int = Field(
        default=512, ge=16, le=8192, description="Most tokens of one reply."
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="Of the first try; a retry is 0.3 warmer."
    )
    tries: int = Field(
        default=2, ge=1, le=10, description="Replies asked for until one can be read."
    )
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="Most requests sent per minute; null: no limit."
    )
    batch: int = Field(default=8, ge=1, le=256, description="Passages written about together.")
    round_trip: bool = Field(
        default=True,
        description="Keep a written question only where the model that serves, shown the passages "
        "that serving would show, answers it as the writer did.",
    )
    budget_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Refuse to start when prompts and replies may take more tokens than this.",
    )
    price_per_million_prompt: float = Field(
        default=0.0, ge=0, description="Price of a million prompt tokens, for the estimate."
    )
    price_per_million_reply: float = Field(
        default=0.0, ge=0, description="Price of a million reply tokens, for the estimate."
    )


class DatasetConfig(Value):
    """How an instruction dataset is built."""

    seed: int = Field(default=7, ge=0, description="Of the split and of every choice.")
    train: float = Field(default=0.7, gt=0, le=1, description="Share of documents to train on.")
    validation: float = Field(
        default=0.1, ge=0, lt=1, description="Share of documents to choose checkpoints by."
    )
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of documents to evaluate on.")
    unanswerable: float = Field(
        default=0.15,
        ge=0,
        le=0.9,
        description="Share of rows whose passages do not hold the answer (RAFT's rows without the "
        "gold passage); the model must say so. Unanswerable cases beyond it are left out.",
    )
    max_passages: int = Field(
        default=4, ge=1, le=99, description="Passages shown in a row; as many as serving shows."
    )
    questions_per_chunk: int = Field(
        default=5, ge=1, le=50, description="Most synthetic questions from one chunk."
    )
    max_rows: int | None = Field(
        default=None,
        ge=1,
        description="Most rows in all; documents share them evenly. Null: 4000, not counting "
        "imported conversations, of which all are taken then.",
    )
    synthetic: Literal["always", "without_cases", "never"] = Field(
        default="always",
        description="Whether questions are written about the documents: always, only when no cases "
        "are given, or never.",
    )
    questions: Literal["rules", "model", "both"] = Field(
        default="rules",
        description="Who writes questions: rules; the built-in question writer, and rules for "
        "tables and fields alone; or both.",
    )
    max_cloze_share: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Most of the synthetic questions that leave a word out.",
    )
    max_heading_share: float = Field(
        default=0.1, ge=0, le=1, description="Most that ask what a section says."
    )
    max_section_share: float = Field(
        default=0.05, ge=0, le=1, description="Most that ask which section says something."
    )
    max_imported_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Most of the rows that were imported conversations; null: all that are given.",
    )
    near_duplicate: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Resemblance (Jaccard, word 5-grams) from which documents share a split.",
    )
    near_duplicate_questions: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Resemblance (Jaccard, character 5-grams) from which two questions with one "
        "answer are one.",
    )
    decontaminate: bool = Field(
        default=True,
        description="Leave out of train and validation what is asked in a frozen case set.",
    )
    contamination: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Resemblance (Jaccard, character 5-grams) from which a question is that of a "
        "frozen case.",
    )
    contamination_ngrams: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Share of a frozen question's word 8-grams from which a row holds it.",
    )
    mask: tuple[Personal, ...] = Field(
        default=(), description="Personal data to mask in every row: email, phone, iban, card, ip."
    )
    writer: WriterConfig = WriterConfig()

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train + validation + test is {total:g}, not 1")
        return self

    @field_validator("mask")
    @classmethod
    def _in_one_order(cls, mask: tuple[Personal, ...]) -> tuple[Personal, ...]:
        return tuple(kind for kind in PERSONAL if kind in mask)


class PairsConfig(Value):
    """How preference pairs are made of an instruction dataset."""

    seed: int = Field(default=7, ge=0, description="Of every choice.")
    max_pairs: int = Field(default=4000, ge=1, description="Most pairs in all.")
    unsupported: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Most of the pairs whose better side is the abstention, as a share.",
    )
