"""`pl simulate`: presets and faults from the shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pl_sim.presets import SCALES


def block_paths(out: Path, count: int) -> list[Path]:
    """OUT.ms, or OUT_1.ms, OUT_2.ms … for several execution blocks."""
    if count == 1:
        return [out]
    return [out.with_name(f"{out.stem}_{k}{out.suffix}") for k in range(1, count + 1)]


def make(preset: str, out: str, seed: int, faults: tuple[str, ...], scale: str) -> list[dict[str, Any]]:
    """Make all execution blocks of a preset. Runs in a worker process, which alone imports CASA."""
    from pl_kernel.compute.serve import send
    from pl_sim.engine import simulate
    from pl_sim.presets import get_preset

    observations = get_preset(preset).observations(scale)
    made = []
    for number, (observation, path) in enumerate(
        zip(observations, block_paths(Path(out), len(observations)), strict=True)
    ):
        simulate(
            observation,
            path,
            seed=seed + number,
            faults=faults,
            progress=lambda fraction, n=number: send((n + fraction) / len(observations)),
        )  # type: ignore[misc]
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        made.append(
            {
                "path": str(path),
                "truth": f"{path}.truth",
                "megabytes": round(size / 1e6, 1),
                "scans": len(observation.scans),
                "antennas": len(observation.array.antennas),
            }
        )
    return made


def catalogue() -> dict[str, Any]:
    """Presets and faults with their one-line descriptions and the faults' parameters."""
    import attrs

    from pl_sim.faults import known_faults
    from pl_sim.presets import known_presets

    return {
        "presets": {p.name: p.summary for p in known_presets().values()},
        "faults": {
            name: {
                "summary": " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
                "parameters": {f.name: f.default for f in attrs.fields(cls)},  # type: ignore[arg-type]
            }
            for name, cls in known_faults().items()
        },
    }


def _list(as_json: bool) -> None:
    known = catalogue()
    if as_json:
        click.echo(json.dumps(known, indent=1))
        return
    click.secho("Presets", bold=True)
    for name, summary in known["presets"].items():
        click.echo(f"  {name:24s} {summary}")
    click.secho("Faults", bold=True)
    for name, fault in known["faults"].items():
        click.echo(f"  {name:32s} {fault['summary']}")
        values = ", ".join(f"{k}:{v}" for k, v in fault["parameters"].items())
        if values:
            click.secho(f"  {'':32s} {values}", dim=True)


@click.command("simulate", short_help="Make an observation with a known truth, and faults if asked.")
@click.argument("preset", required=False)
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--seed", default=1, show_default=True, help="Seed of the noise; the truth does not depend on it.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=VALUES]",
    help="Something that goes wrong: dead-antenna=ea05, rfi-narrow=jy:30,width:5. May be repeated.",
)
@click.option(
    "--scale",
    type=click.Choice(SCALES),
    default="small",
    show_default=True,
    help="tiny: seconds and megabytes, for tests; full: as observed.",
)
@click.option("--list", "listing", is_flag=True, help="List presets and faults.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
def simulate_command(
    preset: str | None, out: Path | None, seed: int, faults: tuple[str, ...], scale: str, listing: bool, as_json: bool
) -> None:
    """Make an observation with a known truth: PRESET OUT.ms.

    Beside OUT.ms lies OUT.ms.truth: the gains, fluxes and faults that were put in, to hold a reduction against.
    """
    if listing:
        _list(as_json)
        return
    if preset is None or out is None:
        raise click.UsageError("Give a preset and the name of the measurement set to make, or --list.")
    import sys

    from pl_kernel.compute import Worker
    from pl_kernel.errors import InputError
    from pl_sim.faults import parse_fault
    from pl_sim.presets import get_preset

    # Wrong names are refused here, before a worker starts.
    get_preset(preset)
    for fault in faults:
        parse_fault(fault)
    out = out.absolute()
    if not out.parent.is_dir():
        raise InputError(f"There is no folder {out.parent} to put {out.name} into.")
    with (
        Worker() as worker,
        click.progressbar(
            length=1000, label=f"{preset} ({scale})", file=sys.stderr, hidden=as_json or not sys.stderr.isatty()
        ) as bar,
    ):
        made = worker.call(
            make, preset, str(out), seed, faults, scale, on_message=lambda done: bar.update(int(1000 * done) - bar.pos)
        )
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    for block in made:
        click.echo(
            f"{block['path']}: {block['antennas']} antennas, {block['scans']} scans, {block['megabytes']} MB; "
            f"truth in {Path(block['truth']).name}"
        )
