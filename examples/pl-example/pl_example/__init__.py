"""A third-party plugin: a stage, a scorer for somebody else's stage, a renderer, a recipe."""

from pathlib import Path

from pl_kernel import Inputs, QAScore, Result, Stage, hookimpl, param, renderer, scorer


class TallyInputs(Inputs):
    most: int = param(20, doc="How many fields to list.", minimum=1)


class TallyResult(Result):
    seconds: dict[str, float]  # time on each field


class Tally(Stage[TallyInputs, TallyResult]):
    """Add up the time spent on every field."""

    name = "example_tally"
    topic = "dataset"

    def run(self, ctx, inputs):
        seconds = {}
        for times in ctx.map(time_on_fields, ctx.measurement_sets(inputs.vis)):
            for field, time in times.items():
                seconds[field] = seconds.get(field, 0.0) + time
        longest = sorted(seconds, key=seconds.get, reverse=True)[: inputs.most]
        return TallyResult(seconds={field: seconds[field] for field in longest})


def time_on_fields(ctx_item, ms):
    """Seconds on each field of one measurement set: its rows divided by those of one integration."""
    with ctx_item.casa.table(ms.path) as table:
        fields, times, intervals = (table.getcol(c) for c in ("FIELD_ID", "TIME", "INTERVAL"))
    integrations = {(f, t): i for f, t, i in zip(fields, times, intervals, strict=True)}
    seconds = dict.fromkeys((field.name for field in ms.fields), 0.0)
    for (field, _), interval in integrations.items():
        seconds[ms.field(int(field)).name] += float(interval)
    return seconds


@scorer("h_importdata", topic="dataset")
def enough_antennas(result):
    """Judge a stage that is not ours: two antennas make an interferometer, eight make an image."""
    scores = []
    for item in result.imported:
        count = len(item.ms.antennas)
        score = QAScore(
            metric="example.antennas",
            value=count,
            score=min(1.0, count / 8),
            short=f"{count} antennas",
            long=f"{item.ms.name} has {count} antennas.",
        )
        scores.append(score)
    return scores


@renderer(TallyResult)
def page(page, ctx, result):
    page.section("Time on fields")
    page.table(["Field", "Time"], [[f, s] for f, s in result.seconds.items()], units={"Time": "s"})
    page.plots(draw, [result.seconds], caption="Time on every field")


def draw(ctx_item, seconds, path):
    from pl_kernel.weblog import plots  # matplotlib is imported where something is drawn, and only there

    plots.bars(path, list(seconds), list(seconds.values()), ylabel="Time", unit="s")


@hookimpl
def pl_stages():
    return [Tally]


@hookimpl
def pl_qa_scorers():
    return [enough_antennas]


@hookimpl
def pl_renderers():
    return [page]


@hookimpl
def pl_recipes():
    return [Path(__file__).with_name("example_tally.yaml")]
