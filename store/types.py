"""The values that the pipelines hand each other: frozen, validated, without I/O.

Answers, and what people said of them, are in ``answer_types``.

Times are UTC. Offsets are counted in Unicode code points of ``Document.text``, so that
``document.text[chunk.start:chunk.end] == chunk.text``. Hashes are lower-case hex sha256.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Role = Literal["system", "user", "assistant"]
SearchMode = Literal["hybrid", "vector", "text"]
SourceState = Literal["indexed", "empty", "failed"]
DatasetKind = Literal["instruction", "preference"]
RunKind = Literal[
    "ingest", "dataset", "finetune", "evaluate", "calibrate", "batch", "pipeline", "repair",
    "forget", "rebuild", "monitor", "validate",
]  # fmt: skip
RunStatus = Literal["running", "done", "partial", "failed"]


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def sha256_hex(data: str | bytes) -> str:
    """Lower-case hex sha256 of bytes, or of text as UTF-8 (lone surrogates kept)."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return hashlib.sha256(raw).hexdigest()


def nfc(name: str) -> str:
    """A name as it is compared: it may be typed in one form of Unicode and stored in another."""
    return unicodedata.normalize("NFC", name)


def document_id(source: str) -> str:
    """Identity of a document: where it comes from, not what it says."""
    return "d" + sha256_hex(source)[:24]


def chunk_id(document: str, content_hash: str, occurrence: int) -> str:
    """Identity of a chunk: whose it is, what it says, and which of several that say so it is."""
    return "c" + sha256_hex(f"{document}\n{content_hash}\n{occurrence}")[:24]


class Value(BaseModel):
    """Base of all values: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Value):
    """A source as cleaned text.

    ``content_hash`` is the sha256 of the source's raw bytes (for a record inside a file: of the
    record); ``metadata`` holds string facts about the source that searches can filter by.
    """

    id: str
    source: str
    title: str
    text: str
    content_hash: str
    media_type: str
    metadata: Mapping[str, str] = Field(default_factory=dict)
    ingested_at: datetime = Field(default_factory=now)


#: In a passage's metadata: the ``context`` of its chunk.
CONTEXT = "table_context"


class Chunk(Value):
    """A contiguous piece of one document: what is embedded, searched and cited.

    ``section`` is the path of headings above the chunk, outermost first. ``context`` is what the
    text cannot be read without and does not say itself: the names of the columns of the table that
    it goes on with, or the row. The id is derived from
    the document, the text and its occurrence number, so that it survives edits elsewhere in the
    document.
    """

    id: str
    document_id: str
    ordinal: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    text: str
    content_hash: str
    section: tuple[str, ...] = ()
    context: str = ""


class SourceRecord(Value):
    """The ledger's line on one source: what happened to it last and what is still served.

    ``attempted_hash`` is the content hash of the last attempt; ``content_hash`` that of the last
    good version, empty when there never was one. A failed re-ingest keeps the last good version.

    Of a failed source, ``attempts`` counts the failures in a row and ``retry_at`` is when it is
    tried again although nothing has changed; None: only when the file or ``attempted_settings``
    (what it was read with) change. ``collection`` is the one that its chunks belong to, if any.
    """

    id: str
    source: str
    title: str
    state: SourceState
    collection: str = ""
    attempts: int = 0
    retry_at: datetime | None = None
    attempted_settings: str = ""
    duplicate_of: str = ""
    cause: str = ""
    content_hash: str = ""
    attempted_hash: str = ""
    settings_digest: str = ""
    chunks: int = 0
    attempted_at: datetime
    ingested_at: datetime | None = None


class Passage(Value):
    """A chunk as retrieval returns it and as a citation points at it.

    ``score`` orders the list (its scale depends on the search). ``similarity`` is the cosine of
    query and chunk, in [-1, 1], known when the vector search saw the chunk; ``text_score`` is the
    BM25 score when the full-text search did. ``found_by`` names the searches that found it.
    """

    rank: int = Field(ge=1)
    chunk_id: str
    document_id: str
    title: str
    source: str
    section: tuple[str, ...] = ()
    start: int = 0
    end: int = 0
    text: str
    score: float = 0.0
    similarity: float | None = None
    text_score: float | None = None
    found_by: tuple[str, ...] = ()
    metadata: Mapping[str, str] = Field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Title, section path and context in one line, as the prompt shows it."""
        parts = [self.title, *(s for s in self.section if s != self.title)]
        parts.append(self.metadata.get(CONTEXT, ""))
        return " > ".join(" ".join(p.split()) for p in parts if p.strip())


class Message(Value):
    """One turn of a conversation. ``content`` is plain text and never carries control tokens."""

    role: Role
    content: str


class EmbedderIdentity(Value):
    """The passport of vectors: two vectors compare only under the same identity."""

    id: str
    revision: str = ""
    weights_sha256: str
    dimension: int = Field(ge=1)
    normalized: bool = True
    query_prefix: str = ""
    document_prefix: str = ""
    max_tokens: int = Field(ge=1)

    @property
    def digest(self) -> str:
        """sha256 over all fields."""
        return sha256_hex(self.model_dump_json())


class ModelIdentity(Value):
    """Which weights and which tokenizer, to the byte.

    For a model behind an HTTP server the digests are empty: the server does not show its files.
    """

    id: str
    revision: str = ""
    weights_sha256: str = ""
    tokenizer_sha256: str = ""


#: Constant of reciprocal rank fusion, as in Cormack, Clarke and Büttcher (SIGIR 2009).
RRF_K = 60


class Fusion(Value):
    """How the list by vectors and the list by words become one."""

    method: Literal["rrf", "weighted", "bounded"] = Field(
        default="rrf",
        description="rrf: by rank (Cormack et al. 2009); weighted: by score, each list's scaled to "
        "0 to 1 (a convex combination, Bruch et al. 2023); bounded: by score, as shares of the "
        "best that any passage could have, so that words which hardly match count for little.",
    )
    vector_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Weight of the list by vectors; the list by words has the rest.",
    )
    rrf_k: int = Field(
        default=RRF_K, ge=1, le=1000, description="The larger, the less the first ranks count."
    )


class RetrievalContract(Value):
    """The passport of passages: how they are found for a question, by the embedder beside it.

    Fields are those of the retrieval's settings, as they applied; ``reranker`` is which weights
    reorder, None where none do. ``min_similarity`` changes no passage: it is the cosine below which
    the model is not asked, unless the prompt contract has one of its own. ``collection`` and
    ``where`` say which documents are searched, not how, and are not compared. Contracts are
    compared by the fields that both name (``contracts.retrieval_contract``).
    """

    mode: SearchMode
    k: int
    candidates: int
    fusion: Fusion
    near_copies: float
    diversity: float
    context: Literal["chunk", "section"]
    section_characters: int
    reranker: ModelIdentity | None
    min_similarity: float
    collection: str = ""
    where: tuple[str, ...] = ()


class InstructionExample(Value):
    """One row of an instruction dataset.

    ``passages`` are in prompt order; ``citations`` are 1-based positions in it. An unanswerable
    row has an empty ``answer`` and no citations. ``messages`` is the rendered conversation for
    other trainers; fti's own training composes it again from the parts, under its contract.
    ``documents`` and ``chunk_ids`` name the gold chunks (for an unanswerable row: the chunk the
    question was made from, which is not among the passages). A ``chat`` row was imported and rests
    on no document. ``style`` says more closely how the question was made, ``evidence`` is the
    sentence or quote that the answer was taken from, ``history`` holds the turns before the
    question, oldest first.
    """

    id: str
    kind: Literal[
        "question", "field", "list", "heading", "section", "cloze",
        "case", "feedback", "written", "chat", "unanswerable",
    ]  # fmt: skip
    style: str = ""
    question: str
    answer: str
    evidence: str = ""
    history: tuple[Message, ...] = ()
    passages: tuple[Passage, ...]
    citations: tuple[int, ...]
    response: str
    messages: tuple[Message, ...] = ()
    split: Split
    documents: tuple[str, ...]
    chunk_ids: tuple[str, ...]


class PreferenceExample(Value):
    """Two responses to one prompt: the better one and the worse one.

    ``chosen`` and ``rejected`` are answers without markers, empty for the abstention, with the
    1-based positions in ``passages`` that they cite; the ``..._response`` fields are the rendered
    texts for other trainers. The kind says where the pair comes from: a person's correction, an
    answer taken from a passage that does not answer the question, or an answer where none of the
    passages holds one.
    """

    id: str
    kind: Literal["correction", "wrong_passage", "unsupported"]
    question: str
    history: tuple[Message, ...] = ()
    passages: tuple[Passage, ...]
    chosen: str
    chosen_citations: tuple[int, ...] = ()
    chosen_response: str
    rejected: str
    rejected_citations: tuple[int, ...] = ()
    rejected_response: str
    messages: tuple[Message, ...] = ()
    split: Split
    documents: tuple[str, ...]
    chunk_ids: tuple[str, ...] = ()


class FileEntry(Value):
    """A file of a published version."""

    path: str
    sha256: str
    bytes: int


class DatasetVersion(Value):
    """A published, immutable dataset: of instruction rows, or of preference pairs.

    ``kinds`` counts rows by their kind. ``retrieval`` is how the rows' passages were found, None
    where there are no documents or an earlier fti did not say. ``statistics`` says what was kept at
    each filter, how long rows are in tokens and how they are balanced; it enters no digest.
    """

    name: str
    version: int = Field(ge=1)
    kind: DatasetKind = "instruction"
    created_at: datetime
    rows: Mapping[str, int]
    kinds: Mapping[str, int] = Field(default_factory=dict)
    documents: Mapping[str, tuple[str, ...]]
    digest: str
    features_version: int
    embedder: EmbedderIdentity
    retrieval: RetrievalContract | None = None
    prompt_digest: str
    run_id: str
    files: tuple[FileEntry, ...]
    settings: Mapping[str, Any] = Field(default_factory=dict)
    statistics: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def ref(self) -> str:
        """``name/number``, as commands take it."""
        return f"{self.name}/{self.version}"


class Interval(Value):
    """A mean with its 95 % bootstrap confidence interval over ``n`` cases."""

    mean: float
    low: float
    high: float
    n: int


class Run(Value):
    """What ran, from which inputs, with which settings, to which outputs.

    ``pipeline`` is the one whose contract it ran under, where several keep runs of a kind; earlier
    ones did not say. ``libraries`` are the versions of what computes: two runs of the same inputs
    under the same libraries, on the same kind of machine, agree. ``memory_mb`` is the most that the
    process had held by the end (resident, 2**20 bytes), whatever else it did before; None where it
    is not known.
    """

    id: str
    kind: RunKind
    pipeline: str = ""
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None = None
    inputs: Mapping[str, str] = Field(default_factory=dict)
    outputs: Mapping[str, str] = Field(default_factory=dict)
    settings: Mapping[str, Any] = Field(default_factory=dict)
    metrics: Mapping[str, Any] = Field(default_factory=dict)
    code_version: str = ""
    libraries: Mapping[str, str] = Field(default_factory=dict)
    memory_mb: float | None = None
    error: str = ""


class Case(Value):
    """A question with its accepted answers; none means the documents do not answer it.

    ``document`` is the gold document as the case file writes it. ``relevant`` holds judged
    document sources with their grade (from BEIR qrels); it is empty for CASES.jsonl files. ``tags``
    name groups that the case belongs to; reports show each group by itself.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    document: str = ""
    relevant: Mapping[str, int] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether the documents hold an answer."""
        return bool(self.answers)
