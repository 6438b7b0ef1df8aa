"""The resolved settings of one invocation: the only reader of profiles and of the environment.

Precedence: command line, then ``FTI_…`` variables, then the profile (YAML), then the defaults that
stand in the configuration classes beside the code that uses them. A profile holds differences only.
An unknown key, a missing file or a misspelt ``FTI_`` variable is an error.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.cross_encoders.reranking import RerankerConfig
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig, PairsConfig
from fti.pipelines.feature.dataset.negatives import NegativesConfig
from fti.pipelines.feature.feature_config import FeatureConfig, MonitoringConfig
from fti.pipelines.feature.validating.expectations import ExpectationsConfig
from fti.pipelines.inference.inference_config import BatchConfig, EvaluationConfig, InferenceConfig
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.promises import PromisesConfig
from fti.store.contracts.prompt_contract import BUILTIN_FORM, EvidenceChoice, PromptForm
from fti.store.errors import ConfigError
from fti.store.proof.gate import GateConfig
from fti.store.types import Value
from fti.store.upkeep.asked_questions import AnswersConfig

#: Variables of the environment that are not settings: where settings come from, and where this
#: machine has room for what can be made again.
_CONTROL = ("FTI_CONFIG", "FTI_CACHE")
_SECRETS = ("api_key", "api_keys")


class PromptConfig(Value):
    """Wording and budgets of the contract that a base model is served and trained under."""

    form: PromptForm = BUILTIN_FORM
    max_prompt_tokens: int = Field(default=1200, ge=16)
    max_new_tokens: int = Field(default=96, ge=1)
    max_passages: int = Field(default=4, ge=1, le=99)
    max_passage_tokens: int = Field(default=256, ge=16)
    evidence_sentences: int = Field(
        default=0,
        ge=0,
        description="Show only so many sentences of the passages, those that fit the question "
        "best, which a small model reads better; 0: whole passages.",
    )
    evidence_choice: EvidenceChoice = Field(
        default="hybrid",
        description="What chooses these sentences. hybrid: similarity, the words shared with the "
        "question and the passage's rank; similarity: that alone, which finds fewer answers.",
    )
    abstain_below: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Cosine of question and nearest passage below which the model is not asked, as "
        "fti calibrate finds it; none: inference.retrieval.min_similarity.",
    )
    refuse_above: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How likely the model must think its own refusal for it to stand; below that "
        "it must answer. 0: every refusal stands. For the engine transformers, when greedy.",
    )


class Settings(BaseSettings):
    """Everything that can be set, by section."""

    model_config = SettingsConfigDict(
        env_prefix="FTI_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    store: Path = Field(default=Path(".fti"), description="Root of the shared storage.")
    model: str = Field(
        default="base",
        description="What answers when none is named: base, extractive, NAME@ALIAS or NAME/N.",
    )
    embedder: EmbedderConfig = EmbedderConfig()
    generator: GeneratorConfig = GeneratorConfig()
    reranker: RerankerConfig = RerankerConfig()
    prompt: PromptConfig = PromptConfig()
    features: FeatureConfig = FeatureConfig()
    inference: InferenceConfig = InferenceConfig()
    batch: BatchConfig = BatchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    dataset: DatasetConfig = DatasetConfig()
    pairs: PairsConfig = PairsConfig()
    training: TrainingConfig = TrainingConfig()
    negatives: NegativesConfig = NegativesConfig()
    embedder_training: EmbedderTrainingConfig = EmbedderTrainingConfig()
    gate: GateConfig = GateConfig()
    expectations: ExpectationsConfig = ExpectationsConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    promises: PromisesConfig = PromisesConfig()
    service: ServiceConfig = ServiceConfig()
    answers: AnswersConfig = AnswersConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, profile; no .env file and no secrets folder."""
        profile = YamlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, profile

    def public(self) -> dict[str, Any]:
        """The settings as JSON values, secrets masked: for runs, logs and ``fti config show``."""
        return self.model_dump(mode="json")


def load_settings(
    profile: Path | None = None,
    *,
    store: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Resolve the settings.

    Args:
        profile: YAML file; without one, ``FTI_CONFIG``, then the default profile that ships. A
            plain name (``small``) means that profile of those that ship.
        store: root of the store, over everything else.
        overrides: ``section.key=value`` from the command line; values are YAML.
        environment: where variables are read, for error checks; the process's own by default.

    Raises:
        ConfigError: an unknown key or variable, a missing or broken file, a value out of range.
    """
    env = os.environ if environment is None else environment
    if profile is None and env.get("FTI_CONFIG"):
        profile = Path(env["FTI_CONFIG"])
    path = profile_path(profile)
    _check_yaml(path)
    _check_environment(env)
    given: dict[str, Any] = {}
    for text in overrides:
        _apply_override(given, text)
    if store is not None:
        given["store"] = store

    class Resolved(Settings):
        model_config = SettingsConfigDict(yaml_file=path, yaml_file_encoding="utf-8")

    Resolved.__name__ = Resolved.__qualname__ = "Settings"
    try:
        return Resolved(**given)
    except ValidationError as error:
        raise ConfigError(
            f"The settings from {str(path)!r} and the command line cannot be used: "
            + "; ".join(_explain(line) for line in error.errors()),
            hint="See what applies with: fti config show",
        ) from error


def given_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The FTI_ variables that are set and say something about settings, less the secrets."""
    env = os.environ if environment is None else environment
    return {
        name: value
        for name, value in sorted(env.items())
        if name.startswith("FTI_") and not any(s in name.lower() for s in _SECRETS)
    }


def profiles_folder() -> Path:
    """Where the profiles that ship lie: inside an installed package, or beside it in a clone."""
    here = Path(__file__).resolve().parent  # in a clone this package is reached through a link
    inside = here / "configs"
    return inside if inside.is_dir() else here.parent / "configs"


def profile_path(profile: Path | None) -> Path:
    """The file a profile argument means.

    Raises:
        ConfigError: there is no such file or profile.
    """
    if profile is None:
        return profiles_folder() / "default.yaml"
    if profile.is_file():
        return profile
    shipped = {p.stem: p for p in sorted(profiles_folder().glob("*.yaml"))}
    if str(profile) in shipped:
        return shipped[str(profile)]
    raise ConfigError(
        f"There is no profile {str(profile)!r}.",
        hint=f"Name a YAML file, or one of those that ship: {', '.join(shipped)}.",
    )


def setting_names(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings, sections before their keys."""
    for name, field in model.model_fields.items():
        yield prefix + name
        # A section may be absent altogether: ``ServerConfig | None``.
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from setting_names(kind, f"{prefix}{name}.")


def _check_yaml(path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The profile {str(path)!r} cannot be read: {error}.", hint="Mend it, or name another."
        ) from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(
            f"The profile {str(path)!r} holds a {type(content).__name__}, not keys with values.",
            hint="Compare it with what fti config show prints.",
        )


def _check_environment(env: Mapping[str, str]) -> None:
    known = {"FTI_" + n.replace(".", "__").upper() for n in setting_names()} | set(_CONTROL)
    for name in sorted(env):
        if name.startswith("FTI_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Unset it."
            raise ConfigError(f"The variable {name!r} is no setting of fti.", hint=hint)


def _apply_override(given: dict[str, Any], text: str) -> None:
    key, separator, raw = text.partition("=")
    if not separator:
        raise ConfigError(
            f"The override {text!r} has no '='.", hint="Write it like --set retrieval.k=5"
        )
    names = list(setting_names())
    if key not in names:
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"Did you mean {near[0]}?" if near else "See: fti config show"
        raise ConfigError(f"There is no setting {key!r}.", hint=hint)
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of {text!r} is not YAML: {error}.") from error
    *sections, last = key.split(".")
    for section in sections:
        given = given.setdefault(section, {})
    given[last] = value


def _explain(line: Any) -> str:
    where = ".".join(str(part) for part in line["loc"])
    if line["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, list(setting_names()), n=1)
        return f"{where} is no setting" + (f" (did you mean {near[0]}?)" if near else "")
    shown = "" if any(s in where for s in _SECRETS) else f", got {line['input']!r}"
    return f"{where}: {line['msg']}{shown}"
