"""``fti config``: which settings apply."""

from __future__ import annotations

from fti.app.options import Commands, CommonOptions

group = Commands("config", "Show the settings that apply.")


@group.command("show")
def show(common: CommonOptions) -> None:
    """Print the resolved settings as YAML (or JSON), secrets masked."""
    import sys

    import yaml

    settings = common.settings()
    common.reporter().result(settings.public())
    if not common.json:
        sys.stdout.write(yaml.safe_dump(settings.public(), sort_keys=False, allow_unicode=True))
