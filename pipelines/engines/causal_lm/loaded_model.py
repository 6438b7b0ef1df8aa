"""A causal language model in memory: the adapters beside it, and whose turn it is."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.plain_llama import PlainLlama
from fti.pipelines.engines.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from fti.pipelines.engines.packed import pack_linears
from fti.pipelines.engines.weights import quiet_loading
from fti.store.errors import ContractError, IntegrityError
from fti.store.types import ModelIdentity


class Turns:
    """A lock that is given in the order asked, so that one busy thread starves no other."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._held:
                self._held = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        try:
            gate.acquire()
        except BaseException:  # an interrupt while waiting must not leave the turn with nobody
            with self._mutex:
                handed_over = gate not in self._waiting
                if not handed_over:
                    self._waiting.remove(gate)
            if handed_over:
                self._pass_on()
            raise

    def __exit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


@dataclass(eq=False)
class LoadedModel:
    """A causal LM in memory, the adapters beside it, and the lock that says whose turn it is.

    ``model`` and ``tokenizer`` are transformers objects; ``model`` may be a ``PlainLlama`` until an
    adapter is put on it that it cannot carry, and ``whole`` then loads it as one of transformers.
    ``lock`` is held for one forward pass at a time: it keeps an adapter in place while it is used.
    ``stop_ids`` end a generation.
    ``batcher`` runs what threads ask for (``engines.batching``), once one has asked.
    """

    model: Any
    tokenizer: Any
    identity: ModelIdentity
    context_tokens: int
    device: str
    stop_ids: frozenset[int]
    quantization: str = "none"
    whole: Callable[[], Any] | None = None
    lock: Turns = field(default_factory=Turns)
    batcher: Any = field(default=None, init=False)
    _packed: tuple[bool | None] | None = None
    _peft: Any = None
    _adapters: dict[str, str] = field(default_factory=dict)
    _users: dict[str, int] = field(default_factory=dict)
    _active: str | None = None

    def add_adapter(self, folder: Path) -> str:
        """Put a LoRA adapter beside the model, once however often it is asked for; its name.

        The model's own answers stay what they were: an adapter acts only while it is ``using``.

        Raises:
            ContractError: the adapter was made for another base, or does not fit this one.
        """
        if self.quantization == "int8":
            raise ContractError(
                f"The adapter in {str(folder)!r} cannot be put on {self.identity.id!r} in int8.",
                hint="Set generator.quantization=none; or serve the merged model: fti models "
                "export NAME/N OUT --format merged, then generator.id=OUT.",
            )
        key = str(folder.resolve())
        with self.lock:
            if key in self._adapters:
                name = self._adapters[key]
                self._users[name] += 1
                return name
            check_adapter(self, folder)
            name = f"adapter{len(self._users) + 1}"
            plain = self.model if isinstance(self.model, PlainLlama) else None
            if plain is None:
                self._add_by_peft(folder, name)
            elif not plain.add_adapter(folder, name):
                self._make_whole(folder, name)
            self._adapters[key] = name
            self._users[name] = 1
            return name

    def _add_by_peft(self, folder: Path, name: str) -> None:
        from peft import PeftConfig, PeftModel
        from safetensors import SafetensorError

        try:
            with quiet_loading():
                config = PeftConfig.from_pretrained(str(folder))
                config.inference_mode = True
                if self._peft is None:
                    self._peft = PeftModel(self.model, config, adapter_name=name)
                    self._active = name
                report = self._peft.load_adapter(str(folder), adapter_name=name)
        except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
            self._forget(name)
            raise ContractError(
                f"The adapter in {str(folder)!r} cannot be put on {self.identity.id!r}: {error}",
                hint="Serve it with the base model that it was trained on.",
            ) from error
        missing = report.missing_keys
        if missing:
            self._forget(name)
            raise ContractError(
                f"The adapter in {str(folder)!r} lacks weights that its settings promise "
                f"({missing[0]!r} and {len(missing) - 1} more).",
            )
        self.model.requires_grad_(False)

    def _make_whole(self, folder: Path, name: str) -> None:
        """Go on with a model that can carry this adapter, packed as this one is, and the others.

        Where the adapter is none, everything stays as it is.
        """
        assert self.whole is not None
        before = (self.model, self.whole)
        self.model, self.whole = self.whole(), None
        try:
            _check_layers(self, folder)
            self._add_by_peft(folder, name)
            for held, other in self._adapters.items():
                self._add_by_peft(Path(held), other)
        except BaseException:
            self.model, self.whole = before
            self._peft = self._active = None
            raise
        if self._packed is not None:
            self.pack(bfloat16=self._packed[0])

    def pack(self, *, bfloat16: bool | None) -> None:
        """Let the model multiply by packed weights; see ``engines.packed.pack_linears``."""
        pack_linears(self.model, bfloat16=bfloat16)
        self._packed = (bfloat16,)

    def remove_adapter(self, name: str) -> None:
        """Give an adapter back; it leaves memory when nobody uses it any more."""
        with self.lock:
            self._users[name] -= 1
            if self._users[name] == 0:
                self._adapters = {k: v for k, v in self._adapters.items() if v != name}
                self._forget(name)

    def _forget(self, name: str) -> None:
        if isinstance(self.model, PlainLlama):
            self.model.remove_adapter(name)
            return
        peft = self._peft
        if peft is None or name not in peft.peft_config:
            return
        tuner = peft.base_model
        others = [other for other in peft.peft_config if other != name]
        if others:
            # peft warns when it has to choose the next one itself.
            tuner.enable_adapter_layers()
            tuner.set_adapter(others[0], inference_mode=True)
            self._active = others[0]
            peft.delete_adapter(name)
        else:
            # The last one goes together with the layers that carried it.
            tuner.unload()
            self._peft = self._active = None

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[Any]:
        """The model with one adapter, or with none, for as long as the block runs."""
        with self.lock:
            # Switching walks over all layers, so it is done only when it changes something.
            if isinstance(self.model, PlainLlama):
                self.model.use(adapter)
            elif self._peft is not None:
                tuner = self._peft.base_model
                if adapter is None and self._active is not None:
                    tuner.disable_adapter_layers()
                elif adapter is not None and adapter != self._active:
                    tuner.enable_adapter_layers()
                    tuner.set_adapter(adapter, inference_mode=True)
                self._active = adapter
            yield self.model


def check_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Refuse what is no adapter of this base, before anything is changed."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise IntegrityError(
                f"The adapter in {str(folder)!r} has no {name}.",
                hint="Only adapters saved as safetensors are loaded.",
            )
    try:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(folder, error) from error
    _shapes(folder)
    if settings.get("peft_type") != "LORA":
        raise ContractError(
            f"The adapter in {str(folder)!r} is of type {settings.get('peft_type')!r}, and only "
            "LORA adapters can be served.",
        )
    base = loaded.identity
    recorded = settings.get("base_model_name_or_path") or base.id
    revision = settings.get("revision") or base.revision
    if (recorded, revision) != (base.id, base.revision):
        raise ContractError(
            f"The adapter in {str(folder)!r} was trained on {recorded!r} (revision {revision!r}), "
            f"not on {base.id!r} (revision {base.revision!r}).",
            hint="Use a profile whose generator is that base model.",
        )
    if not isinstance(loaded.model, PlainLlama):  # it sees for itself what it can carry
        _check_layers(loaded, folder)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (ValueError, SafetensorError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> IntegrityError:
    return IntegrityError(f"The adapter in {str(folder)!r} cannot be read: {error}")


def _check_layers(loaded: LoadedModel, folder: Path) -> None:
    """Refuse an adapter whose layers are not the model's, before anything is changed."""
    modules = dict(loaded.model.named_modules())
    for key, shape in _shapes(folder).items():
        _check_layer(loaded, modules, folder, key, shape)


def _check_layer(
    loaded: LoadedModel, modules: dict[str, Any], folder: Path, key: str, shape: tuple[int, ...]
) -> None:
    path, is_low_rank, side = key.removeprefix("base_model.model.").rpartition(".lora_")
    if not is_low_rank or side not in ("A.weight", "B.weight"):
        return
    layer = modules.get(path)
    size = getattr(layer, "in_features" if side == "A.weight" else "out_features", None)
    found = shape[1] if side == "A.weight" else shape[0]
    if layer is None or (size is not None and size != found):
        where = "has no such layer" if layer is None else f"has {size} there"
        raise ContractError(
            f"The adapter in {str(folder)!r} changes {path!r} with {found} features, and "
            f"{loaded.identity.id!r} {where}.",
            hint="Use a profile whose generator is the base model that it was trained on.",
        )
