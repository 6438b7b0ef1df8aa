"""The training loop: steps from a checkpoint to a later one, and the model folder from it."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.evidence import Remembering, nearest_sentences
from fti.pipelines.training.builtin.batches import (
    Batch,
    Encoded,
    batches,
    collate,
    encode_row,
    step_rows,
)
from fti.pipelines.training.builtin.recipe import Recipe, Stream
from fti.pipelines.training.builtin.rows import FORM, Corpus, Row, Turn, shown
from fti.pipelines.training.builtin.tokenizer import PAD

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

    from fti.pipelines.engines.embedders.embedding import Embedder

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


def losses(model: LlamaForCausalLM, batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    """Cross entropy and correctness of each predicted token; logits only where they are needed."""
    from torch.nn.functional import cross_entropy

    hidden = model.model(input_ids=batch.ids.to(device), use_cache=False).last_hidden_state
    logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[batch.where.to(device)])
    targets = batch.targets.to(device)
    return cross_entropy(logits, targets, reduction="none"), logits.detach().argmax(-1) == targets


def development_rows(
    tokenizer: Any, corpus: Corpus, limit: int, embedder: Embedder | None = None, count: int = 2
) -> list[tuple[Encoded, bool]]:
    """Held-out questions over their own paragraph, one a row, always the same.

    Each comes with whether what is shown answers it. With an embedder, what is shown are the
    paragraph's ``count`` sentences nearest to the question.
    """
    rng = random.Random(0)
    asked = [(text, a) for text in corpus.held_out for a in text.asked]
    rng.shuffle(asked)
    out = []
    for text, a in asked[:limit]:
        passages = shown([text], rng)
        if embedder is not None:
            passages = nearest_sentences(a.question, passages, embedder, count=count)
        answer = a.answer if a.answer in passages[0].text else ""
        row = Row(passages, (Turn(a.question, FORM.response(answer, [1] if answer else [])),))
        out.append((encode_row(tokenizer, row), bool(answer)))
    return out


def development(
    model: LlamaForCausalLM, rows: list[tuple[Encoded, bool]], device: str
) -> dict[str, float]:
    """Response loss a token; shares of answers and of abstentions right token for token."""
    import torch

    model.eval()
    total, count = 0.0, 0
    exact: dict[bool, list[bool]] = {True: [], False: []}
    with torch.no_grad():
        for row, answerable in rows:
            batch = collate([row], 0)
            loss, right = losses(model, batch, device)
            total, count = total + float(loss.sum()), count + len(loss)
            exact[answerable].append(bool(right.all()))
    model.train()
    return {
        "dev_loss": round(total / max(count, 1), 4),
        "dev_answered": round(sum(exact[True]) / max(len(exact[True]), 1), 4),
        "dev_abstained": round(sum(exact[False]) / max(len(exact[False]), 1), 4),
    }


class Trainer:
    """A model in training with all that is needed to go on after an interruption."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: Any,
        corpus: Corpus,
        recipe: Recipe,
        embedder: Embedder,
        *,
        seed: int,
        device: str,
    ) -> None:
        import torch

        self.model, self.tokenizer, self.recipe, self.seed, self.device = (
            model.to(device),
            tokenizer,
            recipe,
            seed,
            device,
        )
        remembering = Remembering(embedder)
        self.stream = Stream(corpus, seed, remembering)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.log: list[dict[str, float]] = []
        self.dev = {
            "": development_rows(tokenizer, corpus, 160),
            "evidence_": development_rows(tokenizer, corpus, 160, remembering),
            "sentence_": development_rows(tokenizer, corpus, 160, remembering, count=1),
        }
        self.named = dict(model.named_parameters())
        decayed = [p for p in self.named.values() if p.ndim > 1]
        plain = [p for p in self.named.values() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.stages[0].learning_rate, betas=(0.9, 0.98), fused=True,
        )  # fmt: skip

    def _rows(self) -> list[Encoded]:
        stage, done = self.recipe.at(self.step)
        progress = done / stage.steps
        rng = random.Random(f"{self.seed} step {self.step}")
        rows: list[Encoded] = []
        while sum(len(r.ids) for r in rows) < self.recipe.tokens_per_step:
            row = self.stream.row(rng, stage, progress)
            if not row.turns:
                continue
            encoded = encode_row(self.tokenizer, row, repeat_weight=self.recipe.repeat_weight)
            if len(encoded.ids) <= self.recipe.row_tokens:
                rows.append(encoded)
        share = stage.prompt_share * (1 - progress)
        return step_rows(rows, rng, share, self.recipe.prompt_weight)

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns its response loss and share of right response tokens."""
        import torch

        start = time.monotonic()
        rows = self._rows()
        parts = batches(rows, self.recipe, self.tokenizer.convert_tokens_to_ids(PAD))
        whole = sum(float(b.weights.sum()) for b in parts)
        loss_sum = right_sum = seen = 0.0
        for batch in parts:
            loss, right = losses(self.model, batch, self.device)
            (loss @ batch.weights.to(self.device) / whole).backward()
            mark = batch.is_response.to(self.device)
            loss_sum += float(loss.detach()[mark].sum())
            right_sum += float(right[mark].sum())
            seen += float(mark.sum())
            self.tokens += batch.ids.numel()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            stage, done = self.recipe.at(self.step)
            group["lr"] = stage.rate(done)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seconds += time.monotonic() - start
        return {"loss": loss_sum / seen, "right": right_sum / seen}

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
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds, "seed": self.seed,
            "taken": self.stream.taken, "recipe": self.recipe.written(), "log": self.log,
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
        import torch
        from safetensors.torch import load_file

        weights = load_file(folder / MODEL)
        moments = load_file(folder / OPTIMIZER)
        with torch.no_grad():
            for name, p in self.named.items():
                p.copy_(weights[name])
                if f"step/{name}" in moments:
                    self.optimizer.state[p] = {
                        key: moments[f"{key}/{name}"].to(p.device)
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        self.step, self.tokens, self.seconds, self.log = (
            state["step"],
            state["tokens"],
            state["seconds"],
            state["log"],
        )
        self.stream.taken = state["taken"]

    def run(
        self,
        checkpoint: Path,
        *,
        minutes: float | None,
        save_minutes: float = 4.0,
        dev_every: int = 100,
    ) -> None:
        """Steps until the recipe ends or the time is up; saves on the way and at the end."""
        began = saved = time.monotonic()
        recent: list[dict[str, float]] = []
        while self.step < self.recipe.steps and (
            minutes is None or time.monotonic() - began < minutes * 60
        ):
            recent.append(self.advance())
            if self.step % 10 == 0 or self.step == self.recipe.steps:
                mean = {k: sum(r[k] for r in recent) / len(recent) for k in recent[0]}
                entry = {
                    "step": self.step,
                    "tokens": self.tokens,
                    "seconds": round(self.seconds),
                    **{k: round(v, 4) for k, v in mean.items()},
                }
                if self.step % dev_every == 0 or self.step == self.recipe.steps:
                    for form, rows in self.dev.items():
                        found = development(self.model, rows, self.device)
                        entry |= {form + name: value for name, value in found.items()}
                self.log.append(entry)
                recent = []
                left = self.seconds / self.step * (self.recipe.steps - self.step) / 60
                print(
                    f"{entry}  {self.tokens / self.seconds:.0f} tokens/s, {left:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
            if time.monotonic() - saved > save_minutes * 60:
                self.save(checkpoint)
                saved = time.monotonic()
        self.save(checkpoint)
