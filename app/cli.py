"""The ``fti`` command: parse, build, call, print. Heavy imports live inside the commands."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from fti.app.commands import (
    ask,
    batch,
    calibrate,
    cases,
    collections,
    config,
    contracts,
    dataset,
    dataset_build,
    demo,
    doctor,
    evaluate,
    failed,
    feedback,
    finetune,
    finetune_embedder,
    forget,
    ingest,
    keys,
    mcp,
    models,
    monitor,
    pipeline,
    rebuild,
    search,
    serve,
    store,
    trace,
    upkeep,
    validate,
    versions,
    watch,
)
from fti.app.options import Commands
from fti.pipelines.engines.openmp import wait_briefly
from fti.store.errors import FtiError

app = Commands(
    "fti",
    "Turn documents into a service that answers from them, and prove that it got better.\n\n"
    "Start with: fti demo. With your own documents: fti ingest FOLDER, then fti ask QUESTION.",
    epilog="Results go to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 misused, "
    "3 done with some failures.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fti {version('fti-llm')}")
        raise typer.Exit


@app.callback()
def root(
    shown: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of the command as a whole."""


for group in (
    cases.group,
    config.group,
    dataset.group,
    feedback.group,
    keys.group,
    models.group,
    pipeline.group,
    store.group,
    versions.group,
):
    app.add_typer(group)
for command in (upkeep.diff, *upkeep.MARKS, upkeep.gc, rebuild.rebuild):
    models.group.command()(command)
for command in (dataset_build.build, dataset_build.pairs, dataset_build.feedback):
    dataset.group.command()(command)
dataset.group.command("rebuild")(rebuild.rebuild_dataset)

for command in (ingest.ingest, watch.watch, search.search, ask.ask):
    app.command()(command)
for command in (finetune.finetune, finetune_embedder.finetune_embedder):
    app.command()(command)
app.command(cls=evaluate.EvaluateCommand)(evaluate.evaluate)
for command in (
    batch.batch,
    collections.collections,
    failed.failed,
    calibrate.calibrate,
    trace.trace,
    forget.forget,
    serve.serve,
    mcp.mcp,
):
    app.command()(command)
for command in (demo.demo, doctor.doctor, validate.validate, monitor.monitor, contracts.contracts):
    app.command()(command)


def main() -> None:
    """Run the command; a failure is one clean line on stderr and an exit code."""
    # Model libraries print progress bars and advice of their own; ours is enough.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    wait_briefly()
    try:
        # The parser's own complaints come here too, so that they read as all others do.
        sys.exit(app(standalone_mode=False))
    except FtiError as error:
        _fail(error.code, error.message, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("\nfti: interrupted; what was finished is kept.\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except typer.Abort:  # a question that was not answered
        sys.exit(1)
    except Exception as error:  # the one door of the command line: a bug still ends in one line
        if isinstance(error, _USAGE):
            said = error.format_message()
            if said:  # where nothing is said, the help was shown
                _fail("usage", said, _what_there_is(error.ctx))
            sys.exit(error.exit_code)
        if os.environ.get("PYTHONDEVMODE"):
            raise
        _fail(
            "internal",
            f"{type(error).__name__}: {error}",
            "This is a defect in fti. Run again with PYTHONDEVMODE=1 for the traceback.",
        )
        sys.exit(1)


#: What the parser says of words that it does not know: the public error's base.
_USAGE: type[Any] = typer.BadParameter.__base__ or typer.BadParameter


def _what_there_is(context: Any) -> str:
    """What a command line could have been, for one that was misunderstood."""
    if context is None:
        return "See: fti --help"
    see, command = f"See: {context.command_path} --help", context.command
    if hasattr(command, "commands"):
        return f"There is: {', '.join(sorted(command.commands))}. {see}"
    taken = [
        max(p.opts, key=len) if p.param_type_name == "option" else (p.metavar or p.name).upper()
        for p in command.params
    ]
    return f"{context.command_path} takes {', '.join(taken)}. {see}"


def _fail(code: str, message: str, hint: str) -> None:
    from fti.app.reporting import printable

    sys.stderr.write(f"fti: {printable(message)}\n")
    if hint:
        sys.stderr.write(f"     {printable(hint)}\n")
    if "--json" in sys.argv:
        body = {"error": {"code": code, "message": message, "hint": hint}}
        sys.stdout.write(json.dumps(body, ensure_ascii=False) + "\n")
