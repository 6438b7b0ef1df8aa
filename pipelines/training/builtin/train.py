"""The training loop: steps from a checkpoint to a later one."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fti.pipelines.engines.model_files import ADAPTER_WEIGHTS
from fti.pipelines.engines.weights import (
    quiet_loading,
)
from fti.pipelines.training.builtin.branches import Batch, Encoded, batches, collate
from fti.pipelines.training.builtin.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import LlamaForCausalLM

MODEL, OPTIMIZER, STATE = "adapter.safetensors", "optimizer.safetensors", "state.json"
LOG = "training_log.json"
_TOTALS = ("step", "tokens", "turns", "seconds")
Develop = Callable[["PeftModel"], dict[str, float]]
"""Figures on what is held out."""

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def with_adapter(model: LlamaForCausalLM, recipe: Recipe, *, seed: int) -> PeftModel:
    """The base with a fresh adapter on every linear layer; only that is trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=0.0, target_modules=LINEAR,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with quiet_loading():
        return get_peft_model(model, config)


def losses(
    model: PeftModel, batch: Batch, device: str, *, bfloat16: bool = False
) -> tuple[Tensor, Tensor]:
    """Cross entropy and correctness of each predicted token; logits only where they are needed.

    The vocabulary is a fifth of the arithmetic of a token, and few tokens are predicted. Products
    may be computed in bfloat16; weights and sums stay as they are.
    """
    import torch
    from torch.nn.functional import cross_entropy

    inner: Any = model.get_base_model()
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16):
        hidden = inner.model(
            input_ids=batch.ids.to(device),
            attention_mask=batch.sees.to(device),
            position_ids=batch.positions.to(device),
            use_cache=False,
        ).last_hidden_state
        logits = inner.lm_head(hidden.reshape(-1, hidden.shape[-1])[batch.where.to(device)])
    logits = logits.float()
    targets = batch.targets.to(device)
    return cross_entropy(logits, targets, reduction="none"), logits.detach().argmax(-1) == targets


class Rows(Protocol):
    """Where rows come from: reading rows or writing rows, without end."""

    taken: dict[str, int]

    def encoded(self, tokenizer: Any, rng: random.Random, progress: float) -> Encoded | None:
        """The next row as ids; None where nothing could be made of it."""
        ...


class Trainer:
    """A model in training with all that is needed to go on after an interruption."""

    def __init__(
        self,
        model: PeftModel,
        tokenizer: Any,
        stream: Rows,
        recipe: Recipe,
        *,
        seed: int,
        device: str,
        workers: int = 2,
        bfloat16: bool = False,
        develop: Develop | None = None,
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self.bfloat16 = bfloat16

        self.model, self.tokenizer, self.recipe, self.seed, self.device = (
            model.to(device),
            tokenizer,
            recipe,
            seed,
            device,
        )
        self.stream, self.develop = stream, develop
        self.step, self.tokens, self.turns, self.seconds = 0, 0, 0, 0.0
        self.taken: dict[str, int] = {}
        self.earlier: list[dict[str, float]] = []
        self.log: list[dict[str, float]] = []
        # One batch a thread, each on one core: threads that share every product wait for one
        # another at each of them, which costs much where other programs want the cores too.
        self._pool = ThreadPoolExecutor(workers)
        self._coming: Future[tuple[list[Encoded], dict[str, int]]] | None = None
        self.named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.named.values(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0,
            fused=True,
        )  # fmt: skip

    @property
    def progress(self) -> float:
        """How much of the planned time has passed, from 0 to 1."""
        return min(1.0, self.seconds / (60 * self.recipe.minutes))

    def _rows(self, step: int, progress: float) -> tuple[list[Encoded], dict[str, int]]:
        """The rows of a step, and what has been taken of each source after them."""
        rng = random.Random(f"{self.seed} step {step}")
        rows: list[Encoded] = []
        while sum(map(len, rows)) < self.recipe.tokens_per_step:
            encoded = self.stream.encoded(self.tokenizer, rng, progress)
            if encoded is not None and len(encoded) <= self.recipe.row_tokens:
                rows.append(encoded)
        return rows, dict(self.stream.taken)

    def _gradients(self, batch: Batch, whole: float) -> tuple[Any, dict[str, float]]:
        """One batch's share of the step's gradients, and what it adds to the step's figures."""
        import torch

        loss, right = losses(self.model, batch, self.device, bfloat16=self.bfloat16)
        total = loss @ batch.weights.to(self.device) / whole
        found = torch.autograd.grad(total, list(self.named.values()))
        asked = int(batch.turn.max()) + 1
        wrong = len(batch.turn[~right.cpu()].unique())
        return found, {
            "loss": float(loss.detach().sum()), "right": float(right.sum()), "seen": len(loss),
            "exact": asked - wrong, "turns": asked,
        }  # fmt: skip

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns its loss a response token, the share of these tokens that
        were right, and the share of responses that were right throughout.
        """
        import torch

        start = time.monotonic()
        if self._coming is None:
            self._coming = self._pool.submit(self._rows, self.step, self.progress)
        rows, self.taken = self._coming.result()
        self.model.train()
        groups = [collate(g, 0) for g in batches(rows, self.recipe.tokens_per_batch)]
        whole = sum(float(b.weights.sum()) for b in groups)
        # The longest first, so that the threads end together; sums in the same order each time.
        parts = [self._pool.submit(self._gradients, b, whole) for b in reversed(groups)]
        self._coming = self._pool.submit(self._rows, self.step + 1, self.progress)
        sums: dict[str, float] = {}
        for part in parts:
            found, figures = part.result()
            for p, g in zip(self.named.values(), found, strict=True):
                p.grad = g if p.grad is None else p.grad.add_(g)
            sums = {k: sums.get(k, 0.0) + v for k, v in figures.items()}
        self.tokens += sum(b.ids.numel() for b in groups)
        torch.nn.utils.clip_grad_norm_(self.named.values(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.turns += int(sums["turns"])
        self.seconds += time.monotonic() - start
        return {
            "loss": sums["loss"] / sums["seen"],
            "right": sums["right"] / sums["seen"],
            "exact": sums["exact"] / sums["turns"],
        }

    def save(self, folder: Path) -> None:
        """Write a checkpoint aside and move it into place, so that there is always a whole one."""
        from safetensors.torch import save_file

        aside = folder.with_name(folder.name + ".new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in self.named.items()}, aside / MODEL)
        moments = {
            f"{key}/{name}": self.optimizer.state[p][key].cpu().contiguous()
            for name, p in self.named.items()
            if p in self.optimizer.state
            for key in ("exp_avg", "exp_avg_sq", "step")
        }
        save_file(moments, aside / OPTIMIZER)
        state = {
            "step": self.step, "tokens": self.tokens, "turns": self.turns,
            "seconds": self.seconds, "seed": self.seed, "taken": self.taken,
            "precision": "bfloat16" if self.bfloat16 else "float32", "earlier": self.earlier,
            "recipe": self.recipe.written(), "log": self.log,
        }  # fmt: skip
        (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, under this trainer's recipe."""
        from safetensors.torch import load_file

        self._put(load_file(folder / MODEL))
        moments = load_file(folder / OPTIMIZER)
        for name, p in self.named.items():
            if f"step/{name}" in moments:
                self.optimizer.state[p] = {
                    key: moments[f"{key}/{name}"].to(p.device if key != "step" else "cpu")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        self.step, self.tokens, self.turns, self.seconds, self.log = (
            state["step"],
            state["tokens"],
            state["turns"],
            state["seconds"],
            state["log"],
        )
        self.taken, self.earlier = state["taken"], state.get("earlier", [])
        self.stream.taken = dict(self.taken)

    def begin_with(self, folder: Path) -> None:
        """Begin with an exported adapter: its weights, and rows that it has not seen.

        Its optimiser's state was not kept: the warm-up makes a new one.
        """
        from safetensors.torch import load_file

        weights = load_file(folder / ADAPTER_WEIGHTS)
        self._put({name: weights[name.replace(".default.", ".")] for name in self.named})
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
        self.taken = log["taken"]
        self.earlier = [*log.get("earlier", []), {key: log[key] for key in _TOTALS}]
        self.stream.taken = dict(self.taken)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, p in self.named.items():
                p.copy_(weights[name])

    def run(
        self,
        checkpoint: Path,
        *,
        minutes: float | None,
        save_minutes: float = 8.0,
        dev_minutes: float = 25.0,
    ) -> None:
        """Steps until the planned time, or ``minutes`` of it, have passed.

        Saves on the way and at the end.
        """
        began = saved = judged = time.monotonic()
        recent: list[dict[str, float]] = []
        while self.progress < 1.0 and (minutes is None or time.monotonic() - began < minutes * 60):
            recent.append(self.advance())
            if self.step % 5 == 0 or self.progress >= 1.0:
                self._note(recent, {})
                recent = []
            if self.develop is not None and time.monotonic() - judged > dev_minutes * 60:
                start = judged = time.monotonic()
                found = self.develop(self.model)
                self.seconds += time.monotonic() - start
                self._note(recent, found)
                recent = []
            if time.monotonic() - saved > save_minutes * 60:
                self.save(checkpoint)
                saved = time.monotonic()
        self.save(checkpoint)

    def _note(self, recent: Sequence[dict[str, float]], found: dict[str, float]) -> None:
        mean = {k: sum(r[k] for r in recent) / len(recent) for k in recent[0]} if recent else {}
        entry = {
            "step": self.step,
            "tokens": self.tokens,
            "turns": self.turns,
            "seconds": round(self.seconds),
            **{k: round(v, 4) for k, v in mean.items()},
            **found,
        }
        self.log.append(entry)
        left = self.recipe.minutes - self.seconds / 60
        rate = self.tokens / max(self.seconds, 1e-9)
        print(f"{entry}  {rate:.0f} tokens/s, {left:.0f} min left", file=sys.stderr, flush=True)
