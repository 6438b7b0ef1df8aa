"""``fti`` whose models do not end their answers, as serving benchmarks set ``ignore_eos``.

Every answer then has as many tokens as the request allows, so that load of a known length can be
made of a model that would answer in a few words.
"""

from __future__ import annotations

from fti.app.cli import main
from fti.pipelines.engines.causal_lm import loading as causal

if __name__ == "__main__":
    causal.stop_ids = lambda tokenizer, more=(): frozenset()
    main()
