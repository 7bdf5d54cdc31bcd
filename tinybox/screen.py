"""The status as text for people: one screen, in colour where there is colour, without a line longer than it is wide."""

from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tinybox.core.acoustics import Level
from tinybox.core.decision import Alert, Decision, QuietView
from tinybox.core.snapshot import Gpu, GpuState, Nic, Severity, Snapshot

SEVERITY_STYLE = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
SEVERITY_MARK = {Severity.CRITICAL: "!!", Severity.WARNING: "! ", Severity.INFO: "· "}
WIDE_COLUMNS = 108
NARROW_COLUMNS = 76
NARROW_SKIPS = ("edge °C", "mem", "fan rpm", "VRAM GiB")


def status_text(snapshot: Snapshot, decision: Decision, *, source: str, box: str, columns: int, colour: bool) -> str:
    """The screen as text, `columns` wide; `colour` adds ANSI sequences."""
    console = Console(
        file=StringIO(),
        width=max(60, min(columns, 160)),
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    wide = console.width >= WIDE_COLUMNS
    parts: list[RenderableType] = [_power_line(decision, box, bar_columns=30 if wide else 12)]
    parts.append(_guarantee_line(decision, is_armed=snapshot.is_armed))
    parts.append(_reason_line(decision, is_armed=snapshot.is_armed))
    parts += [Text(), _gpu_table(snapshot, decision, columns=console.width), Text()]
    parts += _machine_lines(snapshot, decision)
    if source != "daemon":
        parts.append(Text("read once, directly: tinyboxd is not running, nobody holds the budget", style="yellow"))
    parts += _alert_lines(decision.alerts)
    console.print(Group(*parts))
    text = console.file.getvalue() if isinstance(console.file, StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _power_line(decision: Decision, box: str, *, bar_columns: int) -> Text:
    power = decision.power
    line = Text(f"{box}  ", style="bold")
    if power.wall_w is None:
        return line.append(f"wall power unknown, {power.budget_w:.0f} W promised", style="red")
    fraction = power.wall_w / power.budget_w if power.budget_w > 0 else 1.0
    style = "red" if fraction > 1 else "yellow" if fraction > 0.97 else "green"
    line.append(bar(fraction, bar_columns), style=style)
    line.append(f"  {power.wall_w:,.0f} of {power.budget_w:,.0f} W", style="bold")
    volts = f"{power.line_v:.1f} V" if power.line_v is not None else "? V"
    line.append(f"  {power.budget_a:.1f} A promised, {volts}", style="not bold dim")
    if decision.noise is not None:
        line.append(f"  {noise_words(decision.noise)}", style="not bold")
    return line


def noise_words(level: Level) -> str:
    """`41 ±5 dBA estimated`: the word goes once somebody held a meter to it."""
    return f"{level.dba:.0f} ±{level.plus_minus_db:.0f} dBA{' estimated' if level.is_estimated else ''}"


def quiet_words(view: QuietView) -> str:
    """`balanced, 45 dBA at most`."""
    if view.limit_dba is None:
        return f"{view.profile}, as cool as they make it"
    words = view.profile if view.profile.endswith("dBA") else f"{view.profile}, {view.limit_dba:g} dBA"
    return f"{words} at most{': heat goes first' if view.is_broken else ''}"


def _guarantee_line(decision: Decision, *, is_armed: bool) -> Text:
    """Amps against the promise, the breaker, and what holds if the daemon dies."""
    power = decision.power
    mean = f"{power.mean_a:.1f}" if power.mean_a is not None else "?"
    line = Text(f"{mean} A on the mean of ten seconds, breaker at {power.breaker_heat:.0%} of a trip; ", style="dim")
    measured = "" if power.is_commissioned else ", not measured"
    line.append(f"{power.guarantee}{measured}" if is_armed else "nothing is guaranteed", style="dim")
    if power.other_a > 0:
        line.append(f"; {power.other_a:.0f} A of somebody else", style="yellow")
    return line


def bar(fraction: float, columns: int) -> str:
    """A bar of eighths: `fraction` of `columns` filled, clipped to 0..1."""
    eighths = round(max(0.0, min(1.0, fraction)) * columns * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(columns, "░")


def _reason_line(decision: Decision, *, is_armed: bool) -> Text:
    return Text(decision.reason, style="dim" if is_armed else "yellow")


def _gpu_table(snapshot: Snapshot, decision: Decision, *, columns: int) -> Table:
    """One row a card; a narrow screen has fewer columns, never cropped ones."""
    grants = {grant.gpu: grant.board_w for grant in decision.power.grants}
    rows = [_gpu_cells(gpu, grants.get(gpu.id)) for gpu in snapshot.gpus]
    shown = [name for name in (rows[0] if rows else {}) if columns >= NARROW_COLUMNS or name not in NARROW_SKIPS]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, collapse_padding=True)
    table.add_column("GPU", no_wrap=True)
    for name in shown if columns >= WIDE_COLUMNS else shown[:-3]:
        table.add_column(name, justify="left" if name == "PCI" else "right", no_wrap=True)
    for gpu, cells in zip(snapshot.gpus, rows, strict=True):
        table.add_row(gpu.id, *(cells[str(column.header)] for column in table.columns[1:]))
    return table


def _gpu_cells(gpu: Gpu, grant_w: float | None) -> dict[str, str | Text]:
    """Heading to cell; the last three are for wide screens. A card that is away has its state for watts."""
    is_awake = gpu.state is GpuState.AWAKE
    cells: dict[str, str | Text] = {
        "W": _number(gpu.power_w, "") if is_awake else Text(gpu.state, style="dim"),
        "cap": _number(gpu.cap_w, ""),
        "clock MHz": _clock(gpu),
        "edge °C": _temp(gpu.edge_c, 90),
        "hot": _temp(gpu.junction_c, 100),
        "mem": _temp(gpu.memory_c, 98),
        "fan rpm": _number(gpu.fan_rpm, ""),
        "busy": _number(gpu.busy_pct, " %"),
        "VRAM GiB": _vram(gpu),
        "grant W": _number(grant_w, ""),
        "link": f"x{gpu.link_width}" if gpu.link_width else "?",
        "PCI": Text(gpu.pci, style="dim"),
    }
    kept = ("W", "grant W", "PCI")
    return cells if is_awake else {name: cell if name in kept else "" for name, cell in cells.items()}


def _clock(gpu: Gpu) -> str:
    if gpu.clock_mhz is None:
        return "?"
    return str(gpu.clock_mhz) if gpu.clock_limit_mhz is None else f"{gpu.clock_mhz}/{gpu.clock_limit_mhz}"


def _vram(gpu: Gpu) -> str:
    if gpu.vram_used_bytes is None or gpu.vram_total_bytes is None:
        return "?"
    return f"{gpu.vram_used_bytes / 2**30:.1f}/{gpu.vram_total_bytes / 2**30:.0f}"


def _number(value: float | None, unit: str) -> str:
    return "?" if value is None else f"{value:.0f}{unit}"


def _temp(value_c: float | None, hot_c: float) -> Text:
    if value_c is None:
        return Text("?", style="red")
    return Text(f"{value_c:.0f}", style="red" if value_c >= hot_c else "")


def _machine_lines(snapshot: Snapshot, decision: Decision) -> list[Text]:
    cpu = snapshot.cpu
    lines = [Text(f"CPU     {_number(cpu.busy_pct, ' %')}  {_number(cpu.power_w, ' W')}  {_number(cpu.temp_c, ' °C')}")]
    if cpu.memory_used_bytes is not None and cpu.memory_total_bytes is not None:
        lines[0].append(f"  {cpu.memory_used_bytes / 2**30:.1f}/{cpu.memory_total_bytes / 2**30:.0f} GiB")
    if snapshot.fans:
        lines.append(Text("fans    " + "  ".join(_number(fan.rpm, "") for fan in snapshot.fans) + " rpm"))
        if decision.quiet is not None:
            lines[-1].append(f"  {quiet_words(decision.quiet)}", style="yellow" if decision.quiet.is_broken else "dim")
    for index, drive in enumerate(snapshot.drives):
        size = f"{drive.size_bytes / 1e9:,.0f} GB" if drive.size_bytes is not None else "?"
        used = f"{drive.used_pct:.0f} % worn" if drive.used_pct is not None else ""
        name, temp = drive.id.split("/")[1], _number(drive.temp_c, " °C")
        words = f"{name:6}  {size:>9}  {temp:>6}  {used:10}  {drive.model or ''}"
        lines.append(Text(("drives  " if index == 0 else "        ") + words))
    raid = snapshot.raid
    if raid is not None:
        where = f"at {raid.mount}" if raid.mount else "not mounted"
        free = f", {raid.free_bytes / 1e9:,.0f} GB free" if raid.free_bytes is not None else ""
        style = "" if raid.state == "clean" else "yellow"
        words = f"array   {raid.level or '?'} {raid.state} {where}, {len(raid.members)} drives{free}"
        lines.append(Text(words, style=style))
    if snapshot.nics:
        lines.append(Text("network " + "  ".join(_port(nic) for nic in snapshot.nics)))
    return lines


def _port(nic: Nic) -> str:
    name = nic.id.partition("/")[2]
    if not nic.is_up:
        return f"{name} not connected"
    speed = f"{nic.speed_mbps / 1000:g} Gbit/s" if nic.speed_mbps is not None else "up"
    return " ".join([name, speed, *(one for one in nic.addresses if "." in one)])


def _alert_lines(alerts: tuple[Alert, ...]) -> list[Text]:
    order = list(SEVERITY_STYLE)
    ranked = sorted(alerts, key=lambda alert: order.index(alert.severity))
    return [Text(f"{SEVERITY_MARK[a.severity]} {a.id}: {a.reason}", style=SEVERITY_STYLE[a.severity]) for a in ranked]
