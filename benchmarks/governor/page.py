"""The report as one HTML file that needs nothing else: targets, work by policy, spread over plants, runs in time."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from statistics import median

from benchmarks.governor import svg
from benchmarks.governor.matrix import FIXED_150, HIGHEST, Cell
from benchmarks.governor.report import TITLES, Results, about
from benchmarks.governor.series import SAMPLE_S, Series
from benchmarks.governor.svg import RIGHT, Frame, Point
from benchmarks.governor.targets import ARRIVAL_WORST, DWELL_WORST, FAST_WORST, Target
from benchmarks.governor.workloads import Tag, Workload, workload

WIDTH = 980
SHOWN = ("bounded", "strict", HIGHEST, FIXED_150)
NAMES_WIDTH, BAR, GAP, ROW_GAP = 150, 7, 1, 11
RATIO_MAX = 1.6


def page(results: Results, series: Sequence[Series]) -> str:
    """The whole file."""
    parts = [_head(results)]
    for box in results.boxes:
        parts.append(f'<section id="{box}"><h2>{escape(box)}</h2>')
        parts.append(_targets(results.targets(box)))
        parts.append(_bars(results, box))
        parts.append(_spread(results, box))
        parts.append(_runs([one for one in series if one.watch.box == box]))
        parts.append("</section>")
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>tinybox: the power governor</title><style>{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(results: Results) -> str:
    words = escape(about(results)).replace("`", "")
    links = " ".join(f'<a href="#{box}">{escape(box)}</a>' for box in results.boxes)
    return (
        "<header><h1>The power governor</h1>"
        "<p>Six GPUs on one outlet: how much of a clairvoyant's work is done, and what becomes of the promises.</p>"
        f'<p class="small">{words}</p><nav>{links}</nav></header>'
    )


def _targets(targets: Sequence[Target]) -> str:
    verdict = {True: '<span class="pill pass">pass</span>', False: '<span class="pill miss">miss</span>', None: ""}
    rows = "".join(
        f"<tr><td>{escape(t.what)}</td><td>{escape(t.asked)}</td><td>{escape(t.measured)}</td>"
        f'<td>{verdict[t.passes]}</td><td class="small">{escape(t.where)}</td></tr>'
        for t in targets
    )
    head = "<tr><th>target</th><th>asked</th><th>measured over plants</th><th></th><th>worst at</th></tr>"
    passed, missed = sum(t.passes is True for t in targets), sum(t.passes is False for t in targets)
    return f'<p class="sum">{passed} pass, {missed} miss</p><div class="wide"><table>{head}{rows}</table></div>'


def _legend(names: Sequence[str]) -> str:
    items = "".join(f'<span><i class="key {name}"></i>{escape(TITLES[name])}</span>' for name in names)
    return f'<p class="legend">{items}</p>'


def _bars(results: Results, box: str) -> str:
    """Groups of bars: a workload each, a bar for each policy, its length the median and its whisker the extremes."""
    names = [name for name in SHOWN if any(c.policy == name and c.box == box for c in results.cells)]
    row_height = len(names) * (BAR + GAP) + ROW_GAP
    height = row_height * len(results.workloads) + 30
    scale = (WIDTH - NAMES_WIDTH - 60) / RATIO_MAX
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        x = NAMES_WIDTH + tick * scale
        css = "grid" if tick != 1.0 else "one"
        parts.append(svg.line((x, 18), (x, height - 8), css))
        parts.append(svg.text(x, 12, f"{tick:g}", "tick", anchor="middle"))
    for i, work in enumerate(results.workloads):
        top = 22 + i * row_height
        middle = top + (row_height - ROW_GAP) / 2 + 4
        parts.append(svg.text(NAMES_WIDTH - 10, middle, work.name, "name", anchor="end"))
        for k, name in enumerate(names):
            parts.append(_bar(results.of(box, work.name, name), (NAMES_WIDTH, top + k * (BAR + GAP)), scale))
    title = "<h3>Work over steady</h3>"
    words = (
        "Bars are medians over plants, whiskers the worst and the best. A hollow bar broke a promise on some plant. "
        "More than 1 is work done on amps that were saved within the promise's ten seconds."
    )
    drawn = svg.svg(WIDTH, int(height), parts, f"work over steady on {box}")
    return f'{title}<p class="small">{words}</p>{_legend(names)}<figure>{drawn}</figure>'


def _bar(cells: Sequence[Cell], corner: Point, scale: float) -> str:
    if not cells:
        return ""
    ratios = [min(RATIO_MAX, cell.vs_steady) for cell in cells]
    middle, name = median(ratios), cells[0].policy
    broken = any(cell.promise_broken_s > 0 or cell.trips for cell in cells)
    low, high = corner[0] + min(ratios) * scale, corner[0] + max(ratios) * scale
    title = f"{cells[0].workload}, {TITLES[name]}: worst {min(ratios):.3f}, median {middle:.3f}, best {max(ratios):.3f}"
    bar = svg.rect(corner, middle * scale, BAR, f"{name}{' hollow' if broken else ''}", title)
    y = corner[1] + BAR / 2
    words = svg.text(high + 5, corner[1] + BAR, f"{middle:.2f}", "value") if name == "bounded" else ""
    return bar + svg.line((low, y), (high, y), "whisker") + words


def _least_of(work: Workload) -> float | None:
    """What is asked of bounded on a workload."""
    if Tag.ARRIVAL in work.tags:
        return ARRIVAL_WORST
    if Tag.FAST in work.tags:
        return FAST_WORST
    return DWELL_WORST if Tag.DWELL in work.tags and Tag.FAULT not in work.tags else None


def _spread(results: Results, box: str) -> str:
    """A dot for each plant under bounded, and what is asked."""
    step, height = 18, 18 * len(results.workloads) + 30
    scale = (WIDTH - NAMES_WIDTH - 60) / RATIO_MAX
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        x = NAMES_WIDTH + tick * scale
        parts.append(svg.line((x, 18), (x, height - 8), "grid" if tick != 1.0 else "one"))
        parts.append(svg.text(x, 12, f"{tick:g}", "tick", anchor="middle"))
    for i, work in enumerate(results.workloads):
        y = 30 + i * step
        cells = results.of(box, work.name, "bounded")
        parts.append(svg.text(NAMES_WIDTH - 10, y + 4, work.name, "name", anchor="end"))
        if not cells:
            continue
        points = [(NAMES_WIDTH + min(RATIO_MAX, c.vs_steady) * scale, y + c.seed * 7 % 9 - 4.0) for c in cells]
        parts.append(svg.dots(points, "dots"))
        least = _least_of(work)
        if least is not None:
            x = NAMES_WIDTH + least * scale
            parts.append(svg.line((x, y - 7), (x, y + 7), "asked"))
    words = "bounded over steady, a dot for each plant; the short line is the least that is asked of any."
    drawn = svg.svg(WIDTH, height, parts, f"bounded over steady on {box}, by plant")
    return f'<h3>Spread over plants</h3><p class="small">{words}</p><figure>{drawn}</figure>'


def _runs(series: Sequence[Series]) -> str:
    parts = ["<h3>Runs in time</h3>"] if series else []
    for i, one in enumerate(series):
        watch = one.watch
        title = f"{watch.workload}, {TITLES[watch.policy]}"
        words = f"{workload(watch.workload).about}; plant {watch.seed}"
        opened = " open" if i == 0 else ""
        drawn = "".join(f"<figure>{drawing}</figure>" for drawing in _panels(one))
        parts.append(
            f"<details{opened}><summary><b>{escape(title)}</b> <span>{escape(words)}</span></summary>{drawn}</details>"
        )
    return "".join(parts)


def _panels(one: Series) -> list[str]:
    """Amps, clocks, grants and heat, one below the other."""
    end_s = len(one.amps) * SAMPLE_S
    x_ticks = svg.nice_ticks(end_s, 6)
    panels = [_amps(one, end_s, x_ticks)]
    panels.append(_cards(one.clocks_mhz, "MHz", "clock limits", end_s, x_ticks))
    if one.grants_w:
        panels.append(_cards(one.grants_w, "W", "grants", end_s, x_ticks))
    frame = Frame(WIDTH, 136, end_s, max(1.0, max(one.heat) * 1.05))
    title = "breaker heat, of the fastest one's trip"
    parts = svg.grid(frame, [0, 0.5, 1.0], title, x_ticks=x_ticks, x_unit="s")
    parts.append(svg.curve(frame, SAMPLE_S, [round(value, 3) for value in one.heat], "heat"))
    parts.append(svg.level(frame, 0.8, "80 %", "limit"))
    return [*panels, svg.svg(WIDTH, frame.height, parts, "breaker heat")]


def _amps(one: Series, end_s: float, x_ticks: Sequence[float]) -> str:
    frame = Frame(WIDTH, 220, end_s, max(one.rating_a * 1.1, max(one.circuit_a) * 1.05), bottom=6)
    has_others = one.circuit_a != one.amps
    title = "amps of the box: 0.1 s (thin), mean of 10 s (thick)" + (", of the whole circuit (grey)" * has_others)
    parts = svg.grid(frame, svg.nice_ticks(frame.y_max), title, x_ticks=x_ticks)
    if has_others:
        parts.append(svg.curve(frame, SAMPLE_S, [round(value, 2) for value in one.circuit_a], "circuit"))
    parts.append(svg.curve(frame, SAMPLE_S, [round(value, 2) for value in one.amps], "amps"))
    parts.append(svg.curve(frame, SAMPLE_S, [round(value, 2) for value in one.mean_a], "mean"))
    parts.append(svg.level(frame, one.promised_a, f"{one.promised_a:.3g} A promised", "limit"))
    parts.append(svg.level(frame, one.rating_a, f"{one.rating_a:.3g} A rating", "rating"))
    return svg.svg(WIDTH, frame.height, parts, "amps")


def _cards(values: Sequence[Sequence[float]], unit: str, name: str, end_s: float, x_ticks: Sequence[float]) -> str:
    """One line for each card; where all go together, one."""
    most = max(max(card) for card in values)
    frame = Frame(WIDTH, 124, end_s, most * 1.04, bottom=6)
    parts = svg.grid(frame, svg.nice_ticks(frame.y_max, 3), f"{name}, {unit}", x_ticks=x_ticks)
    for i, card in enumerate(values):
        parts.append(svg.curve(frame, SAMPLE_S, [round(value) for value in card], f"card card{i}", is_stepped=True))
    names = [f"gpu/{i}" for i in range(len(values))] if len({tuple(card) for card in values}) > 1 else ["all cards"]
    for i, words in enumerate(names):
        parts.append(svg.text(WIDTH - RIGHT + 6, svg.TOP + 10 + 15 * i, words, f"note card{i}-text"))
    return svg.svg(WIDTH, frame.height, parts, name)
