"""``fti config``: which settings apply."""

from __future__ import annotations

import typer

from fti.app.options import ConfigOption, JsonOption, SetOption, StoreOption

group = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Show the settings that apply."
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(group, name="config")


@group.command("show")
def show(
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Print the resolved settings as YAML (or JSON), secrets masked."""
    import sys

    import yaml

    from fti.app.reporting import Reporter
    from fti.app.settings import load_settings

    settings = load_settings(config, store=store, overrides=set_ or ())
    report = Reporter(json=json)
    report.result(settings.public())
    if not json:
        sys.stdout.write(yaml.safe_dump(settings.public(), sort_keys=False, allow_unicode=True))
