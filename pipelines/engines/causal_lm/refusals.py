"""When a model's refusal to answer stands.

Greedy decoding takes the likeliest text. A refusal has one wording and an answer many, so among
texts the refusal can come first though the model thinks it likelier that there is an answer. It is
therefore weighed as what it is, one of two decisions: below a given probability it is overruled,
and the model goes on from its likeliest other beginning. From that probability on it stands, also
where some beginning of an answer is likelier still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DECISIVE = 2
"""Ids of the refusal that are weighed; one alone ("The") also begins answers."""


@dataclass(eq=False, slots=True)
class Refusal:
    """The refusal that one answer may turn out to be, while it is generated.

    Args:
        ids: the first ids of its wording, ``DECISIVE`` of them at most.
        least: the probability below which it is overruled.
    """

    ids: tuple[int, ...]
    least: float
    chance: float = 1.0
    overruled: bool = False
    tried: bool = False
    """Whether it was begun though another beginning was likelier."""

    def weigh(self, before: Sequence[int], picked: int, logits: Any) -> int:
        """The next id in place of ``picked``, the likeliest one after the ids ``before``.

        Args:
            before: ids generated so far.
            picked: where ``logits`` are largest.
            logits: of the next id, shape ``(vocabulary,)``.
        """
        at = len(before)
        if self.overruled:
            if at or picked != self.ids[0]:
                return picked
            others = logits.clone()
            others[picked] = -float("inf")
            return int(others.argmax())
        if not self.begun(before) or (at and picked != self.ids[at] and not self.tried):
            return picked
        chance = self.chance * float(logits.float().softmax(-1)[self.ids[at]])
        if at == 0 and picked != self.ids[0]:
            if chance < self.least:
                return picked
            self.tried = True
        self.chance = chance
        self.overruled = chance < self.least and (self.tried or at + 1 == len(self.ids))
        return self.ids[at]

    def begun(self, ids: Sequence[int]) -> bool:
        """Whether the ids may become a refusal that is not decided on yet."""
        at = len(ids)
        return not self.overruled and at < len(self.ids) and tuple(ids) == self.ids[:at]

    def dropped(self, ids: Sequence[int]) -> bool:
        """Whether the ids are the beginning of the refusal that was overruled."""
        return self.overruled and tuple(ids[:1]) == self.ids[:1]
