"""A causal language model with its tokenizer, loaded from local safetensors files.

Used by training and by generation alike, so that both stand on the same weights in the same way.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.eightbit import in_eight_bits
from fti.pipelines.engines.causal_lm.plain_llama import PlainLlama, read_plain_llama
from fti.pipelines.engines.encoding import stop_ids
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ModelFolder
from fti.pipelines.engines.packed import pack_linears
from fti.pipelines.engines.weights import (
    LOAD_ERRORS,
    find_model,
    pick_device,
    quiet_loading,
    tokenizer_sha256,
)
from fti.store.errors import ConfigError, ContractError, IntegrityError
from fti.store.types import ModelIdentity

#: Classes of tokenizers that are what their file says.
_BY_FILE = ("TokenizersBackend", "PreTrainedTokenizerFast")


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
    adapter is put on it, and ``whole`` then loads it as one of transformers. ``lock`` is held for
    one forward pass at a time: it keeps an adapter in place while it is used. ``stop_ids`` end a
    generation.
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
        from peft import PeftConfig, PeftModel
        from safetensors import SafetensorError

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
            self._make_whole()
            _check_adapter(self, folder)
            name = f"adapter{len(self._users) + 1}"
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
                    f"The adapter in {str(folder)!r} cannot be put on {self.identity.id!r}: "
                    f"{error}",
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
            self._adapters[key] = name
            self._users[name] = 1
            return name

    def _make_whole(self) -> None:
        """Go on with a model that adapters can be put on, packed as this one is."""
        if self.whole is None:
            return
        self.model, self.whole = self.whole(), None
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
            if self._peft is not None:
                tuner = self._peft.base_model
                if adapter is None and self._active is not None:
                    tuner.disable_adapter_layers()
                elif adapter is not None and adapter != self._active:
                    tuner.enable_adapter_layers()
                    tuner.set_adapter(adapter, inference_mode=True)
                self._active = adapter
            yield self.model


def load_causal_lm(config: ModelConfig) -> LoadedModel:
    """Load a causal LM and its tokenizer from local files.

    Raises:
        ModelUnavailable: the files are not on this machine; says how to get them.
        IntegrityError: the files are damaged or do not belong together.
        ConfigError: this machine cannot hold the model as asked.
        EngineError: the tokenizer has no chat template.
    """
    folder = find_model(config.id, revision=config.revision, allow_download=config.allow_download)
    folder.weight_files()
    device = pick_device(config.device)
    tokenizer = load_tokenizer(folder)
    model = _load_weights(folder, config, device)
    if config.quantization == "int8":
        model = in_eight_bits(model, tokenizer)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    context = min(limit or 2048, config.context_tokens or limit or 2048)
    # PEFT writes this name into an adapter's settings; a path of this machine would not travel.
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = folder.id
    ends = model.generation_config.eos_token_id if model.generation_config else None
    return _loaded(folder, config, device, model, tokenizer, context, ends)


def load_to_answer(config: ModelConfig, name: str = "") -> LoadedModel:
    """The same for answering only: a plain Llama on a CPU comes without the libraries that train.

    An adapter that is put on it brings them, and the model that they know.

    Args:
        config: which model, and how it is held.
        name: that adapters know it by; empty: its own.

    Raises:
        ModelUnavailable, IntegrityError, ConfigError, EngineError: as ``load_causal_lm``.
    """
    from safetensors import SafetensorError

    def whole() -> Any:
        model = load_causal_lm(config).model
        model.name_or_path = model.config.name_or_path = name or folder.id
        return model

    folder = find_model(config.id, revision=config.revision, allow_download=config.allow_download)
    folder.weight_files()
    device = pick_device(config.device)
    asked = (device, config.quantization, pick_dtype(config.dtype, device))
    settings = read_plain_llama(folder.path)
    model = None
    if settings is not None and asked == ("cpu", "none", pick_dtype("float32", device)):
        # Where weights are damaged or missing, transformers says so below.
        with suppress(*LOAD_ERRORS, SafetensorError):
            model = PlainLlama(settings, folder.path)
    if settings is None or model is None:
        loaded = load_causal_lm(config)
        loaded.model.name_or_path = loaded.model.config.name_or_path = name or folder.id
        return loaded
    tokenizer = load_tokenizer(folder)
    tokenizer.name_or_path = folder.id
    limit = int(settings["max_position_embeddings"])
    context = min(limit, config.context_tokens or limit)
    ends = _ends(folder.path, settings)
    loaded = _loaded(folder, config, device, model, tokenizer, context, ends)
    loaded.whole = whole
    return loaded


def _ends(folder: Path, settings: Mapping[str, Any]) -> int | list[int] | None:
    """Ids that end a text, as a model's files say: those for generation, or else its config."""
    path = folder / "generation_config.json"
    if path.is_file():
        settings = json.loads(path.read_text(encoding="utf-8"))
    return settings.get("eos_token_id")


def _loaded(
    folder: ModelFolder,
    config: ModelConfig,
    device: str,
    model: Any,
    tokenizer: Any,
    context: int,
    ends: int | list[int] | None,
) -> LoadedModel:
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        identity=ModelIdentity(
            id=folder.id,
            # Its answers are others than those of the whole weights: records tell them apart.
            revision=f"{folder.revision}+int8"
            if config.quantization == "int8"
            else folder.revision,
            weights_sha256=folder.weights_sha256(),
            tokenizer_sha256=tokenizer_sha256(tokenizer),
        ),
        context_tokens=context,
        device=device,
        stop_ids=stop_ids(tokenizer, [ends] if isinstance(ends, int) else list(ends or [])),
        quantization=config.quantization,
    )


def load_whole(
    folder: Path, config: ModelConfig, base: ModelIdentity, *, to_answer: bool = False
) -> LoadedModel:
    """Load a version that is a whole model, held in memory as a configuration says.

    Its identity is that of the base that it was trained from, as an adapter's is: that is what its
    contract names. What its own weights are, its version's manifest says.

    Args:
        folder: of the version.
        config: how it is held.
        base: its contract's.
        to_answer: for nothing but that; see ``load_to_answer``.

    Raises:
        ContractError: it has another tokenizer than its base.
        IntegrityError: the files are damaged or do not belong together.
        ConfigError: this machine cannot hold the model as asked.
    """
    found = config.model_copy(update={"id": str(folder), "revision": ""})
    if to_answer:
        loaded = load_to_answer(found, base.id)
    else:
        loaded = load_causal_lm(found)
        loaded.model.name_or_path = loaded.model.config.name_or_path = base.id
    if loaded.identity.tokenizer_sha256 != base.tokenizer_sha256:
        raise ContractError(
            f"The tokenizer in {str(folder)!r} has sha256 {loaded.identity.tokenizer_sha256[:12]}, "
            f"and its contract says {base.tokenizer_sha256[:12]}.",
            hint="Train it again.",
        )
    short = "+int8" if loaded.quantization == "int8" else ""
    loaded.identity = base.model_copy(update={"revision": f"{base.revision}{short}"})
    return loaded


def load_tokenizer(folder: ModelFolder) -> Any:
    """Load the tokenizer of a model folder.

    A tokenizer that is its ``tokenizer.json`` beside a plain Llama is loaded as such: looking for
    its class brings in all of transformers' parts for models.

    Raises:
        IntegrityError: its files are missing or damaged.
    """
    kind = _tokenizer_class(folder.path)
    if kind in _BY_FILE and read_plain_llama(folder.path) is not None:
        from transformers import PreTrainedTokenizerFast as Loader
    else:
        from transformers import AutoTokenizer as Loader

    try:
        return Loader.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False
        )
    except LOAD_ERRORS as error:
        raise IntegrityError(
            f"The tokenizer of {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
        ) from error


def _tokenizer_class(folder: Path) -> str:
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(settings["tokenizer_class"]) if "auto_map" not in settings else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # transformers says what is wrong


def _load_weights(folder: ModelFolder, config: ModelConfig, device: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": pick_dtype(config.dtype, device)}
    if config.quantization == "int8":
        _require_int8(config, device)
    if config.quantization == "4bit":
        options["quantization_config"] = _four_bit(options["dtype"], device)
        options["device_map"] = {"": device}
    try:
        with quiet_loading():
            model, report = AutoModelForCausalLM.from_pretrained(
                str(folder.path),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except (*LOAD_ERRORS, SafetensorError) as error:
        raise IntegrityError(
            f"The model {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
            hint="If memory ran out, use a smaller model or the 4bit quantization; if a file is "
            "damaged, fetch the model again.",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would go on with random numbers in their place.
        raise IntegrityError(
            f"The model {folder.id!r} in {str(folder.path)!r} lacks weights that its config "
            f"promises ({missing[0]!r} and {len(missing) - 1} more).",
            hint="Fetch the model again.",
        )
    if config.quantization == "none":
        model.to(device)
    model.requires_grad_(False)
    model.eval()
    return model


def pick_dtype(name: str, device: str) -> Any:
    """The format of weights that a name of the configuration means on a device."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device == "cpu":
        return torch.float32
    if device == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


def _require_int8(config: ModelConfig, device: str) -> None:
    if device != "cpu" or config.dtype not in ("auto", "float32"):
        raise ConfigError(
            f"Quantization 'int8' is for float32 weights on a CPU; this model would be "
            f"{config.dtype!r} on {device!r}.",
            hint="Set generator.device: cpu and generator.dtype: auto, or quantization: none.",
        )


def _four_bit(dtype: Any, device: str) -> Any:
    import importlib.util

    from transformers import BitsAndBytesConfig

    if device != "cuda":
        raise ConfigError(
            f"Quantization '4bit' needs a CUDA device, and this model would run on {device!r}.",
            hint="Set quantization: none, or use a smaller model.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "Quantization '4bit' needs the package 'bitsandbytes', which is not installed.",
            hint="Run `pip install 'fti-llm[gpu]'`.",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _check_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Refuse an adapter that cannot belong to this base, before anything is changed."""
    from safetensors import SafetensorError, safe_open

    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise IntegrityError(
                f"The adapter in {str(folder)!r} has no {name}.",
                hint="Only adapters saved as safetensors are loaded.",
            )
    try:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (ValueError, SafetensorError) as error:
        raise IntegrityError(
            f"The adapter in {str(folder)!r} cannot be read: {error}",
        ) from error
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
    modules = dict(loaded.model.named_modules())
    for key, shape in shapes.items():
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
