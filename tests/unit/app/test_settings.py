"""Where settings come from, and that what is unknown is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fti.app.settings import load_settings, profiles_folder, setting_names
from fti.store.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("FTI_"):
            monkeypatch.delenv(name)


def test_command_line_beats_environment_beats_profile_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text(
        "prompt: {max_passages: 2, max_new_tokens: 11, max_prompt_tokens: 300}\n", "utf-8"
    )
    monkeypatch.setenv("FTI_PROMPT__MAX_NEW_TOKENS", "22")
    monkeypatch.setenv("FTI_PROMPT__MAX_PROMPT_TOKENS", "400")
    prompt = load_settings(profile, overrides=["prompt.max_prompt_tokens=500"]).prompt
    assert (prompt.max_passages, prompt.max_new_tokens, prompt.max_prompt_tokens) == (2, 22, 500)
    assert prompt.max_passage_tokens == load_settings().prompt.max_passage_tokens


def test_an_unknown_key_of_a_profile_is_named(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("prompt: {max_pasages: 2}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"max_pasages is no setting.*max_passages"):
        load_settings(profile)


def test_a_misspelt_variable_is_named_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_STOER", "x")
    with pytest.raises(ConfigError, match="FTI_STOER") as caught:
        load_settings()
    assert "FTI_STORE" in caught.value.hint


def test_a_missing_profile_names_those_that_ship() -> None:
    with pytest.raises(ConfigError, match=r"'nowhere\.yaml'") as caught:
        load_settings(Path("nowhere.yaml"))
    assert "small" in caught.value.hint


def test_an_unknown_override_is_named() -> None:
    with pytest.raises(ConfigError, match=r"prompt\.max_pasages") as caught:
        load_settings(overrides=["prompt.max_pasages=2"])
    assert "prompt.max_passages" in caught.value.hint


def test_a_value_out_of_range_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"prompt\.max_passages.*got 0"):
        load_settings(overrides=["prompt.max_passages=0"])


def test_a_profile_that_is_a_list_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("- 1\n", "utf-8")
    with pytest.raises(ConfigError, match="holds a list"):
        load_settings(profile)


def test_api_keys_never_appear_in_the_public_settings() -> None:
    settings = load_settings(overrides=["service.api_keys=[hush-hush]"])
    assert settings.service.api_keys[0].get_secret_value() == "hush-hush"
    assert "hush-hush" not in yaml.safe_dump(settings.public())


@pytest.mark.parametrize("profile", sorted(profiles_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_that_ships_resolves_and_says_whom_it_is_for(profile: Path) -> None:
    load_settings(profile)
    first = profile.read_text("utf-8").splitlines()[0]
    assert first.startswith("#")


def test_a_profile_holds_differences_only() -> None:
    defaults = load_settings(profiles_folder() / "default.yaml").model_dump(mode="json")
    for path in profiles_folder().glob("*.yaml"):
        if path.stem == "default":
            continue
        changed = load_settings(path).model_dump(mode="json")
        assert changed != defaults
    assert "service.port" in list(setting_names())


def test_the_settings_of_a_server_can_be_given_by_command_line_and_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the comment in configs/server.yaml says."""
    monkeypatch.setenv("FTI_GENERATOR__SERVER__API_KEY", "secret")
    settings = load_settings(
        Path("server"),
        overrides=["generator.server.base_url=http://127.0.0.1:9/v1", "generator.id=acme-7b"],
    )
    server = settings.generator.server
    assert server is not None
    assert (server.base_url, server.context_tokens) == ("http://127.0.0.1:9/v1", 8192)
    assert server.api_key is not None
    assert server.api_key.get_secret_value() == "secret"
    assert "secret" not in str(settings.public())
