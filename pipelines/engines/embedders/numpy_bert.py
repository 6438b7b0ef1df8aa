"""A plain BERT's vector of a short text, by NumPy alone.

For a command that asks one question: importing torch takes longer than all the rest of a search,
and the vectors are the same but for rounding (Devlin et al. 2019, arXiv:1810.04805, section 3).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.engines.embedders.plain_bert import PlainBert

_Array = NDArray[np.float32]

#: The error function as x * P(x^2) / Q(x^2) on [-4, 4], beyond which it is 1 in float32; as Eigen
#: computes it (``generic_fast_erf_float`` of its 3.4). Off by less than 4e-7.
_P = np.array(
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
     -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
    dtype=np.float32,
)  # fmt: skip
_Q = np.array(
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
     -1.42647390514189e-02),
    dtype=np.float32,
)  # fmt: skip
_HALF, _ONE = np.float32(0.5), np.float32(1.0)


class NumpyBert:
    """Unit vectors of texts, one after the other.

    Args:
        plain: what the model's files say; the weights are read here.

    Raises:
        SafetensorError: the weights are damaged.
    """

    def __init__(self, plain: PlainBert) -> None:
        from safetensors.numpy import load_file
        from threadpoolctl import ThreadpoolController

        self._plain = plain
        self._weights: dict[str, _Array] = load_file(plain.weights)
        self._tokenizer = plain.tokenizer(cut=True)
        self._libraries = ThreadpoolController()

    def encode(self, texts: list[str]) -> _Array:
        """Shape ``(len(texts), hidden)``."""
        vectors = np.zeros((len(texts), self._plain.hidden), dtype=np.float32)
        # Products of a few rows are too small for several cores, whose threads wait for one another
        # at each of them: beside other work that took ten times as long.
        with self._libraries.limit(limits=1, user_api="blas"):
            for row, text in enumerate(texts):
                vectors[row] = self._vector(self._tokenizer.encode(text).ids)
        return vectors

    def _vector(self, ids: list[int]) -> _Array:
        weights = self._weights
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden += weights["embeddings.token_type_embeddings.weight"][0]
        hidden += weights["embeddings.position_embeddings.weight"][: len(ids)]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for n in range(self._plain.layers):
            layer = f"encoder.layer.{n}"
            seen = self._linear(self._attended(hidden, layer), f"{layer}.attention.output.dense")
            hidden = self._norm(seen + hidden, f"{layer}.attention.output.LayerNorm")
            inner = gelu(self._linear(hidden, f"{layer}.intermediate.dense"))
            outer = self._linear(inner, f"{layer}.output.dense")
            hidden = self._norm(outer + hidden, f"{layer}.output.LayerNorm")
        vector = hidden[0] if self._plain.pooling == "cls" else hidden.mean(axis=0)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)

    def _attended(self, hidden: _Array, layer: str) -> _Array:
        query, key, value = (
            self._linear(hidden, f"{layer}.attention.self.{part}")
            .reshape(len(hidden), self._plain.heads, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1)
        scores *= np.float32(1 / math.sqrt(query.shape[-1]))
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return np.asarray((scores @ value).transpose(1, 0, 2).reshape(len(hidden), -1))

    def _linear(self, given: _Array, name: str) -> _Array:
        product = given @ self._weights[f"{name}.weight"].T
        product += self._weights[f"{name}.bias"]
        return np.asarray(product)

    def _norm(self, given: _Array, name: str) -> _Array:
        centred = given - given.mean(axis=-1, keepdims=True)
        spread = np.einsum("ij,ij->i", centred, centred) / np.float32(centred.shape[1])
        centred /= np.sqrt(spread + np.float32(self._plain.eps))[:, None]
        centred *= self._weights[f"{name}.weight"]
        centred += self._weights[f"{name}.bias"]
        return np.asarray(centred)


def gelu(given: _Array) -> _Array:
    """x times the share of a normal distribution below it, from -inf to x; elementwise."""
    out = erf(given * np.float32(math.sqrt(0.5)))
    out += _ONE
    out *= given
    out *= _HALF
    return out


def erf(given: _Array) -> _Array:
    """The error function in float32, elementwise."""
    x = np.clip(given, -4.0, 4.0)
    square = x * x
    over, under = np.full_like(x, _P[0]), np.full_like(x, _Q[0])
    for coefficients, into in ((_P, over), (_Q, under)):
        for coefficient in coefficients[1:]:
            into *= square
            into += coefficient
    over *= x
    over /= under
    return over
