"""Write the stage reference and the command reference from the declarations of what is installed."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import attrs
import click

from pl_kernel.cli.app import COMMANDS, cli
from pl_kernel.params import parameters
from pl_kernel.plugins import Registry

HERE = Path(__file__).parent / "reference"


def cell(value: object) -> str:
    """Text that stays inside one cell of a table."""
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def default_of(parameter: Any) -> str:
    if parameter.default is attrs.NOTHING:
        return "*must be given*"
    if parameter.default is None:
        return "*decided by the stage*"
    return f"`{parameter.default!r}`"


def limits_of(parameter: Any) -> str:
    parts = [parameter.type_name]
    if parameter.choices:
        parts.append("one of " + ", ".join(f"`{choice}`" for choice in parameter.choices))
    if parameter.minimum is not None:
        parts.append(f"≥ {parameter.minimum:g}")
    if parameter.maximum is not None:
        parts.append(f"≤ {parameter.maximum:g}")
    return "; ".join(parts)


def stage_page(registry: Registry, name: str) -> str:
    stage = registry.stage(name)
    lines = [f"# {name}", "", inspect.getdoc(stage) or "", "", f"Plugin: `{registry.stages[name].plugin}`.", ""]
    if stage.mutates:
        lines += [f"Alters {', '.join(sorted(stage.mutates))}; the kernel keeps what was there before it.", ""]
    lines += ["## Parameters", "", "| Name | Type | Default | Meaning |", "|---|---|---|---|"]
    for parameter in parameters(stage.inputs_class).values():
        expert = " *(for experts)*" if parameter.hidden else ""
        meaning = cell(parameter.doc) + expert
        limits, default = cell(limits_of(parameter)), cell(default_of(parameter))
        lines.append(f"| `{parameter.name}` | {limits} | {default} | {meaning} |")
    lines += ["", "## Result", "", "| Field | Type |", "|---|---|"]
    for field in attrs.fields_dict(stage.result_class).values():
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
        lines.append(f"| `{field.name}` | `{cell(kind)}` |")
    return "\n".join(lines) + "\n"


def write_stages() -> int:
    registry = Registry()
    folder = HERE / "stages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = ["# Stages", "", "Written from the stages' own declarations. `pl describe STAGE` shows the same.", ""]
    entries = sorted(registry.stages.values(), key=lambda entry: (entry.plugin, entry.name))
    for plugin in dict.fromkeys(entry.plugin for entry in entries):
        index += [f"## {plugin}", "", "| Stage | |", "|---|---|"]
        for entry in (e for e in entries if e.plugin == plugin):
            (folder / f"{entry.name}.md").write_text(stage_page(registry, entry.name), encoding="utf-8")
            index.append(f"| [`{entry.name}`]({entry.name}.md) | {cell(entry.summary)} |")
        index.append("")
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")
    return len(entries)


def write_commands() -> None:
    lines = ["# Commands", "", "Written from the commands' own help.", ""]
    context = click.Context(cli, info_name="pl", max_content_width=100, terminal_width=100)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        lines += [f"## pl {name}", "", "```text", command.get_help(inner), "```", ""]
    (HERE / "commands.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    print(f"{write_stages()} stages described in {HERE / 'stages'}")
    write_commands()
