"""The plant as physics: what must hold whatever the constants say, and what outsiders have measured."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tinybox.core.box import BOXES, Box, load_box
from tinybox.core.errors import TinyboxError
from tinybox.replay.demand import Demand
from tinybox.replay.trace import Row, Trace
from tinybox.twin.constants import KINDS, GpuPlant, PlantKind, bands_of, load_plant
from tinybox.twin.faults.known import find_fault, known_faults
from tinybox.twin.gpu import CLOCK_STEP_MHZ, GpuPart, Silicon, speed_of, toward
from tinybox.twin.overdrive import Overdrive
from tinybox.twin.plant import PSU_TRIP, SUBSTEP_S, Plant, efficiency, power_factor

NAMES = ("red", "green", "green-3090", "blue")
SEEDS = range(30)
BOX = {name: load_box(name) for name in NAMES}
PLANT = {name: load_plant(box) for name, box in BOX.items()}
RED, KIND = BOX["red"], PLANT["red"]


@pytest.fixture
def plant() -> Plant:
    return Plant.of(RED, KIND)


def load_all(plant: Plant, load: float, kind: str = "train") -> None:
    for gpu in plant.gpus:
        gpu.load, gpu.work_kind = load, kind


def run(gpu: GpuPart, seconds: float) -> float:
    """A card on its own; the work it did, in full-speed seconds."""
    before_s = gpu.work_s
    for _ in range(round(seconds / SUBSTEP_S)):
        gpu.step(SUBSTEP_S, has_power=True)
    return gpu.work_s - before_s


def card(name: str, *, sensor_gain: float = 1.0) -> GpuPart:
    """A nominal card, idle for a while."""
    return GpuPart.of(replace(PLANT[name].gpu, sensor_gain=sensor_gain), BOX[name].gpu, 25.0)


def loaded(name: str, *, kind: str = "train", cap_w: float | None = None, clock_mhz: float | None = None) -> GpuPart:
    """A nominal card at full load, settled."""
    gpu = card(name)
    gpu.load, gpu.work_kind = 1.0, kind
    gpu.cap_w = cap_w if cap_w is not None else BOX[name].gpu.cap_max_w
    gpu.clock_limit_mhz = clock_mhz if clock_mhz is not None else gpu.clock_limit_mhz
    run(gpu, 5.0)
    return gpu


# What is still


def test_an_idle_box_draws_what_idle_parts_draw(plant: Plant) -> None:
    parts_w = 6 * KIND.gpu.idle_w + KIND.cpu.idle_w + KIND.rest.board_w
    assert parts_w < plant.dc_w() < parts_w + 10
    assert plant.wall_w == pytest.approx(plant.dc_w() / efficiency(plant.dc_w() / 2 / RED.psu.rated_w), rel=0.01)
    assert plant.dc_peak_w() == plant.dc_w()


@pytest.mark.parametrize("name", NAMES)
def test_a_card_that_sleeps_freezes_or_is_gone_draws_no_more_than_an_idle_one(name: str) -> None:
    gpu = loaded(name)
    done_s = gpu.work_s
    gpu.is_frozen = True
    run(gpu, 0.1)
    assert (gpu.board_w, gpu.busy, gpu.work_s) == (PLANT[name].gpu.idle_w, 0.0, done_s)
    gpu.is_frozen, gpu.load = False, 0.0
    run(gpu, 5.0)
    assert gpu.board_w == gpu.peak_w == PLANT[name].gpu.idle_w
    assert gpu.clock_mhz == pytest.approx(PLANT[name].gpu.clock_idle_mhz, abs=1.0)
    gpu.load, gpu.is_present = 1.0, False
    run(gpu, 3.0)
    assert (gpu.board_w, gpu.work_s) == (0.0, done_s)
    assert gpu.sensor_w < 1.0
    gpu.is_present = True
    run(gpu, 3.0)
    assert gpu.board_w > 100 and gpu.work_s > done_s


def test_a_card_that_returns_to_the_bus_has_the_factorys_limits() -> None:
    gpu = loaded("red", cap_w=261.0, clock_mhz=900)
    gpu.is_low = True
    gpu.factory_limits()
    assert (gpu.cap_w, gpu.clock_limit_mhz, gpu.is_low) == (RED.gpu.cap_default_w, RED.gpu.clock_max_mhz, False)


# Watts by load, clock and cap


@pytest.mark.parametrize("name", NAMES)
def test_more_load_or_clock_never_means_less_power_or_speed(name: str) -> None:
    silicon = Silicon.of(PLANT[name].gpu, BOX[name].gpu)
    clocks = range(0, BOX[name].gpu.clock_max_mhz + 1, 50)
    for kind in KINDS:
        curve = silicon.curves[kind]
        assert list(curve.active_w) == sorted(curve.active_w)
        assert list(curve.speed) == sorted(curve.speed)
        assert curve.speed[0] == 0.0 and max(curve.speed) == 1.0
        at_full = [silicon.board_w(1.0, clock, kind) for clock in clocks]
        assert at_full == sorted(at_full)
        for clock in clocks[2:]:
            watts = [silicon.board_w(load / 10, clock, kind) for load in range(11)]
            assert watts == sorted(watts)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_settled_card_sits_on_its_curve(name: str, kind: str) -> None:
    box = BOX[name].gpu
    for clock_mhz in range(box.clock_min_mhz + 100, box.clock_max_mhz, 400):
        gpu = loaded(name, kind=kind, cap_w=1000.0, clock_mhz=clock_mhz)
        assert gpu.board_w == pytest.approx(gpu.silicon.board_w(1.0, clock_mhz, kind), rel=0.01)
        assert run(gpu, 1.0) == pytest.approx(gpu.silicon.curves[kind].speed[clock_mhz // CLOCK_STEP_MHZ], abs=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.55, 0.7, 0.9, 1.0])
def test_a_cap_is_obeyed_within_a_second_and_ever_after(name: str, share: float) -> None:
    gpu, cap_w = loaded(name), share * BOX[name].gpu.cap_default_w
    gpu.cap_w = cap_w
    run(gpu, 1.0)
    assert gpu.board_w * PLANT[name].gpu.socket_to_board <= cap_w * 1.03
    run(gpu, 1.0)
    for _ in range(20):
        run(gpu, 0.5)
        # A step of the clock's table is at most two percent of the watts.
        assert gpu.board_w * PLANT[name].gpu.socket_to_board <= cap_w * 1.01
    if gpu.clock_mhz < BOX[name].gpu.clock_max_mhz - 10:
        assert gpu.board_w * PLANT[name].gpu.socket_to_board >= cap_w * 0.97


def test_the_cap_holds_the_cards_own_reading_so_a_meter_that_reads_low_lets_more_through() -> None:
    for gain in (0.95, 1.05):
        gpu = card("green-3090", sensor_gain=gain)
        gpu.load, gpu.cap_w = 1.0, 250.0
        run(gpu, 5.0)
        assert gpu.sensor_w == pytest.approx(250.0, rel=0.01)
        assert gpu.board_w == pytest.approx(250.0 / gain, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_cap_below_what_the_lowest_clock_draws_makes_the_card_skip_cycles(name: str) -> None:
    box, kind = BOX[name].gpu, PLANT[name].gpu
    floor = loaded(name, clock_mhz=box.clock_min_mhz)
    cap_w = 0.8 * floor.board_w * kind.socket_to_board
    gpu = loaded(name, cap_w=cap_w)
    assert gpu.clock_mhz == pytest.approx(box.clock_min_mhz, abs=1.0)
    assert gpu.board_w * kind.socket_to_board == pytest.approx(cap_w, rel=0.01)
    share = (gpu.board_w - kind.idle_w) / (floor.board_w - kind.idle_w)
    assert run(gpu, 1.0) == pytest.approx(share * run(floor, 1.0), rel=0.02)
    gpu.cap_w = box.cap_max_w
    run(gpu, 1.0)
    assert gpu.speed() > 0.9


def test_the_performance_level_low_is_the_lowest_clock_whatever_the_limit(plant: Plant) -> None:
    gpu = plant.gpus[0]
    gpu.load, gpu.is_low = 1.0, True
    plant.advance(2.0)
    assert gpu.clock_mhz == pytest.approx(RED.gpu.clock_min_mhz, abs=1.0)
    assert gpu.board_w == pytest.approx(gpu.silicon.board_w(1.0, RED.gpu.clock_min_mhz), rel=0.01)


@pytest.mark.parametrize("name", ["red", "green-3090"])
def test_a_step_load_exceeds_the_cap_for_tens_to_hundreds_of_milliseconds(name: str) -> None:
    gpu = card(name)
    gpu.load, gpu.cap_w = 1.0, 0.75 * BOX[name].gpu.cap_default_w
    cap_board_w = gpu.cap_w / PLANT[name].gpu.socket_to_board
    board_w = []
    for _ in range(200):
        run(gpu, SUBSTEP_S)
        board_w.append(gpu.board_w)
    over_s = sum(watts > cap_board_w * 1.03 for watts in board_w) * SUBSTEP_S
    assert 0.1 < over_s < 1.0
    assert max(board_w) > 1.2 * cap_board_w
    assert max(board_w[100:]) <= 1.03 * cap_board_w


def test_a_pulse_shorter_than_the_smus_averaging_is_not_capped() -> None:
    gpu = card("red")
    gpu.cap_w = 200.0
    uncapped_w = gpu.silicon.board_w(1.0, RED.gpu.clock_max_mhz)
    seen = []
    for i in range(600):
        gpu.load, gpu.duty = 1.0, 0.5 if i % 2 else 0.4  # a wave of 20 ms: on its mean the cap does not bind
        run(gpu, SUBSTEP_S)
        seen.append(gpu.peak_w)
    assert min(seen[300:]) > uncapped_w


@pytest.mark.parametrize("name", NAMES)
def test_the_excursion_of_milliseconds_is_carried_beside_the_mean(name: str) -> None:
    gpu, kind = loaded(name), PLANT[name].gpu
    assert gpu.peak_w - kind.idle_w == pytest.approx((gpu.board_w - kind.idle_w) * kind.excursion)
    assert 1.1 < kind.excursion < 1.7


def test_the_supplies_protection_sees_every_excursion_at_once(plant: Plant) -> None:
    load_all(plant, 1.0)
    plant.advance(5.0)
    rise_w = sum(gpu.board_w - KIND.gpu.idle_w for gpu in plant.gpus) * (KIND.gpu.excursion - 1)
    assert plant.dc_peak_w() - plant.dc_w() == pytest.approx(rise_w, rel=0.01)
    # The TX-1600 that was measured gave up at 2,024 W; a stock box stays below what two such supplies bear.
    assert PSU_TRIP * RED.psu.rated_w == pytest.approx(2024, rel=0.01)
    assert plant.dc_peak_w() < 2 * PSU_TRIP * RED.psu.rated_w


# Speed by watts, against what outsiders measured

# club-3090's sweeps in steps of 10 W: share of the default cap (350 W, 450 W), share of the default's speed.
DECODE_3090 = [(0.54, 0.41), (0.60, 0.50), (0.66, 0.62), (0.71, 0.73), (0.77, 0.84), (0.83, 0.93), (0.89, 0.97)]
PREFILL_3090 = [(0.54, 0.52), (0.60, 0.64), (0.66, 0.76), (0.71, 0.86), (0.77, 0.91), (0.83, 0.95), (0.89, 0.98)]
EXPERTS_3090 = [(0.54, 0.68), (0.57, 0.76), (0.60, 0.84), (0.66, 0.90), (0.71, 0.93), (0.77, 0.95), (0.83, 0.97)]
DECODE_4090 = [(0.51, 0.80), (0.56, 0.89), (0.58, 0.93), (0.62, 0.95), (0.67, 0.97), (0.76, 0.99), (0.89, 1.0)]
# Puget's ResNet-50 at 280 W; qwertyforce's ViT-B, fp32 and tf32, whose base of 480 W is taken back to 350 W.
TRAIN_3090 = [(0.80, 0.95), (0.80, 0.865), (0.66, 0.825), (0.80, 0.93), (0.91, 0.98)]
MEASURED = [
    ("green-3090", "decode", [*DECODE_3090, (0.94, 1.0)], 0.025),
    ("green-3090", "prefill", [*PREFILL_3090, (0.94, 1.0)], 0.025),
    ("green-3090", "mixed", [*EXPERTS_3090, (0.94, 0.99)], 0.025),
    ("green-3090", "train", TRAIN_3090, 0.06),
    ("green", "decode", DECODE_4090, 0.025),
]


@pytest.mark.parametrize(("name", "kind", "pairs", "tolerance"), MEASURED, ids=lambda value: str(value)[:10])
def test_speed_under_a_cap_is_what_outsiders_measured(
    name: str, kind: str, pairs: list[tuple[float, float]], tolerance: float
) -> None:
    default_w = BOX[name].gpu.cap_default_w
    base = run(loaded(name, kind=kind, cap_w=default_w), 1.0)
    found = [run(loaded(name, kind=kind, cap_w=share * default_w), 1.0) / base for share, _ in pairs]
    assert found == pytest.approx([speed for _, speed in pairs], abs=tolerance)


def test_the_clock_under_a_cap_is_what_club_3090_read() -> None:
    sweep = {190: 540, 230: 825, 250: 975, 270: 1185, 290: 1380, 310: 1470, 330: 1545, 350: 1560, 390: 1680}
    found = [loaded("green-3090", kind="decode", cap_w=watts).clock_mhz for watts in sweep]
    assert found == pytest.approx(list(sweep.values()), abs=70)


def test_a_4090_that_decodes_never_draws_393_w() -> None:
    assert 380 < loaded("green", kind="decode", cap_w=600).board_w <= 393


@pytest.mark.parametrize("name", NAMES)
def test_speed_is_flat_above_a_knee_and_steeper_than_the_watts_below_it(name: str) -> None:
    def slope(kind: str, share: float) -> float:
        """Percent of speed for a percent of watts, at a share of the default's."""
        work = getattr(PLANT[name].gpu, kind)
        return math.log(speed_of(1.02 * share, work) / speed_of(0.98 * share, work)) / math.log(1.02 / 0.98)

    for kind in KINDS:
        slopes = [slope(kind, share / 20) for share in (6, 7, 8, 14, 16, 18, 20)]
        assert min(slopes[:3]) > 1.1
        assert slopes[3:] == sorted(slopes[3:], reverse=True)
        assert slopes[-1] < 0.35
    # Decode is flat early, training late; on a 3090 it is the sparse model whose decode is.
    early = "mixed" if name == "green-3090" else "decode"
    assert slope(early, 0.75) < 0.7 * slope("train", 0.75)


def fastest(name: str, board_w: float, kind: str) -> float:
    """The best that one card does with so many watts, whichever clock it takes."""
    silicon = Silicon.of(PLANT[name].gpu, BOX[name].gpu)
    curve, least = silicon.curves[kind], BOX[name].gpu.clock_min_mhz // CLOCK_STEP_MHZ
    points = zip(curve.active_w[least:], curve.speed[least:], strict=True)
    return max((speed for watts, speed in points if silicon.kind.idle_w + watts <= board_w), default=0.0)


@pytest.mark.parametrize("boards_w", [1020, 1190])
def test_two_parked_and_four_fast_3090s_beat_six_slow_ones_at_dense_decode(boards_w: float) -> None:
    def both(name: str, kind: str) -> tuple[float, float]:
        spare_w = (boards_w - 2 * PLANT[name].gpu.idle_w) / 4
        return 6 * fastest(name, boards_w / 6, kind), 4 * fastest(name, spare_w, kind)

    six, four = both("green-3090", "decode")
    assert four > 1.25 * six
    for kind in KINDS:
        six, four = both("red", kind)
        assert four < 0.95 * six


def test_parking_members_never_helps_a_synchronous_job() -> None:
    box, rows = BOX["green-3090"], [Row(0, i, "train", 1.0, 4.0) for i in range(6)]
    served = {}
    for parked in (0, 2):
        plant, demand = Plant.of(box, PLANT["green-3090"]), Demand(Trace.of(rows))
        for i, gpu in enumerate(plant.gpus):
            gpu.is_parked = gpu.is_frozen = i < parked
            gpu.clock_limit_mhz = 1400.0 if parked else 700.0
        for i in range(400):
            demand.apply(plant, i * SUBSTEP_S, SUBSTEP_S)
            plant.step(SUBSTEP_S)
        served[parked] = demand.work_s
    assert served[2] == 0.0 < served[0]


# The estimate bounds the truth


@pytest.mark.parametrize("name", NAMES)
def test_every_constant_has_a_band_a_source_and_a_confidence(name: str) -> None:
    bands = bands_of(BOX[name])
    assert len(bands) > 60
    for key, band in bands.items():
        assert band.low <= band.value <= band.high, key
        assert len(band.source) > 2 and band.confidence in "HML", key
    assert any(band.low < band.high for band in bands.values())


def constants(part: object, prefix: str = "") -> dict[str, float]:
    """Every drawn number by its dotted name."""
    found: dict[str, float] = {}
    for key in part.__dataclass_fields__:  # type: ignore[attr-defined]
        value = getattr(part, key)
        found |= {f"{prefix}{key}": value} if isinstance(value, float) else constants(value, f"{prefix}{key}.")
    return found


def drawn(kind: PlantKind) -> list[dict[str, float]]:
    """The constants of a plant, once for every card."""
    parts = ("cpu", "rest", "psu", "line", "breaker", "noise", "air")
    rest = {key: value for part in parts for key, value in constants(getattr(kind, part), f"{part}.").items()}
    return [rest | constants(gpu, "gpu.") for gpu in kind.gpus]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_seed_draws_lies_in_its_band_and_is_drawn_again_by_the_same_seed(name: str) -> None:
    bands = bands_of(BOX[name])
    for one in drawn(load_plant(BOX[name])):
        assert one == {key: band.value for key, band in bands.items()}
    for seed in SEEDS:
        kind = load_plant(BOX[name], seed)
        assert kind == load_plant(BOX[name], seed) != load_plant(BOX[name], seed + 1)
        assert len({gpu.static_w for gpu in kind.gpus}) == len(BOX[name].gpu.slots)
        for one in drawn(kind):
            assert one.keys() == bands.keys()
            for key, value in one.items():
                assert bands[key].low <= value <= bands[key].high, key


def table_at(box: Box, clock_mhz: float) -> float:
    """The box's own estimate, between its points too."""
    points = box.gpu.clock_table
    for below, above in itertools.pairwise(points):
        if clock_mhz <= above.clock_mhz:
            share = max(0.0, (clock_mhz - below.clock_mhz) / (above.clock_mhz - below.clock_mhz))
            return below.board_power_max_w + share * (above.board_power_max_w - below.board_power_max_w)
    return points[-1].board_power_max_w


def hungriest(name: str) -> GpuPlant:
    """A card at the hungry end of every band: no seed draws more."""
    bands = bands_of(BOX[name])
    most = ("idle_w", "static_w", "dynamic_w", "silicon", "voltage_least")
    changes = {key: bands[f"gpu.{key}"].high for key in most}
    changes["voltage_exponent"] = bands["gpu.voltage_exponent"].low
    gpu = PLANT[name].gpu
    works = {kind: replace(getattr(gpu, kind), core_share=bands[f"gpu.{kind}.core_share"].high) for kind in KINDS}
    return replace(gpu, **changes, **works)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_no_card_draws_more_than_the_boxs_clock_table_widened_nor_than_its_worst(name: str) -> None:
    box = BOX[name]
    cards = [gpu for seed in SEEDS for gpu in load_plant(box, seed).gpus]
    for kind in (*cards, PLANT[name].gpu, hungriest(name)):
        silicon = Silicon.of(kind, box.gpu)
        for work in KINDS:
            assert silicon.board_w(1.0, box.gpu.clock_max_mhz, work) <= box.gpu.board_power_max_w
            for clock_mhz in range(box.gpu.clock_min_mhz, box.gpu.clock_max_mhz + 1, 95):
                bound_w = table_at(box, clock_mhz) * box.gpu.clock_table_margin
                assert silicon.board_w(1.0, clock_mhz, work) <= bound_w


@pytest.mark.parametrize("name", NAMES)
def test_no_card_draws_more_under_a_cap_than_the_boxs_least_share_of_the_socket_says(name: str) -> None:
    box, bands = BOX[name], bands_of(BOX[name])
    assert bands["gpu.socket_to_board"].low * bands["gpu.sensor_gain"].low >= box.gpu.socket_to_board_min - 1e-9
    for seed in range(6):
        for kind in load_plant(box, seed).gpus:
            gpu = GpuPart.of(kind, box.gpu, 25.0)
            gpu.load, gpu.cap_w = 1.0, 0.7 * box.gpu.cap_default_w
            run(gpu, 4.0)
            assert gpu.board_w <= gpu.cap_w / box.gpu.socket_to_board_min * 1.01


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_of_the_box_is_bounded_too(name: str) -> None:
    box, bands = BOX[name], bands_of(BOX[name])
    assert bands["cpu.busy_w"].high <= box.cpu.power_max_w
    assert bands["rest.board_w"].high + box.fans.count * bands["rest.fan_full_w"].high < 145
    assert bands["psu.efficiency_gain"].low * efficiency(1.0) >= box.psu.efficiency_min - 0.02


def test_six_red_cards_at_their_lowest_clock_fit_an_outlet_and_six_lowest_caps_do_not() -> None:
    def wall_w(seed: int | None, change: Callable[[GpuPart], None]) -> tuple[float, float]:
        plant = Plant.of(RED, load_plant(RED, seed))
        load_all(plant, 1.0)
        plant.cpu_load = 1.0
        for gpu in plant.gpus:
            change(gpu)
        plant.advance(3.0)
        return plant.wall_w, plant.line_a

    def clock_floor(gpu: GpuPart) -> None:
        gpu.clock_limit_mhz = RED.gpu.clock_min_mhz

    def cap_floor(gpu: GpuPart) -> None:
        gpu.cap_w = RED.gpu.cap_min_w

    for seed in (None, *SEEDS):
        watts, amps = wall_w(seed, clock_floor)
        assert watts < 1100 and amps < 0.8 * RED.circuit.amps
        watts, amps = wall_w(seed, cap_floor)
        assert watts > 1800 and amps > RED.circuit.amps


# Faster than four sub-steps


def wave(name: str, period_s: float, duty: float, dt_s: float) -> dict[str, float]:
    """Six cards under a square wave for some seconds, its edges not on sub-steps."""
    plant, on_s, seconds = Plant.of(BOX[name], PLANT[name]), round(period_s * duty, 4), 6.0
    starts = [round(0.003 + i * period_s, 4) for i in range(int(seconds / period_s) - 1)]
    kinds = ("train", "train", "prefill", "decode", "mixed", "train")
    demand = Demand(Trace.of([Row(start, i, kinds[i], 1.0, on_s) for start in starts for i in range(6)]))
    found = {"wall_w": 0.0, "dc_peak_w": 0.0, "wall_max_w": 0.0}
    for i in range(round(seconds / dt_s)):
        demand.apply(plant, i * dt_s, dt_s)
        plant.step(dt_s)
        found["wall_w"] += plant.wall_w * dt_s / seconds
        found["dc_peak_w"] = max(found["dc_peak_w"], plant.dc_peak_w())
        found["wall_max_w"] = max(found["wall_max_w"], plant.wall_w)
    return found | {"work_s": demand.work_s, "heat": plant.breaker_heat}


# Shares: mean watts, breaker heat, the peak that the supplies see, work done, the wall's own ripple.
TOLERANCE = {"wall_w": 0.005, "heat": 0.01, "dc_peak_w": 0.02, "work_s": 0.03, "wall_max_w": 0.06}


@pytest.mark.parametrize("name", ["red", "green-3090"])
@pytest.mark.parametrize(("period_s", "duty"), [(0.004, 0.5), (0.02, 0.35), (0.02, 0.5), (0.05, 0.26), (0.2, 0.5)])
def test_ten_milliseconds_are_as_good_as_half_a_millisecond(name: str, period_s: float, duty: float) -> None:
    coarse, fine = wave(name, period_s, duty, SUBSTEP_S), wave(name, period_s, duty, 0.0005)
    for key, tolerance in TOLERANCE.items():
        assert coarse[key] == pytest.approx(fine[key], rel=tolerance), key


def test_the_result_hardly_depends_on_the_step() -> None:
    fine, coarse = Plant.of(RED, KIND), Plant.of(RED, KIND)
    for plant, step_s in ((fine, 0.01), (coarse, 0.1)):
        load_all(plant, 1.0)
        for gpu in plant.gpus:
            gpu.clock_limit_mhz = 1500.0
        for _ in range(round(60 / step_s)):
            plant.step(step_s)
    assert coarse.wall_w == pytest.approx(fine.wall_w, rel=0.01)
    assert coarse.gpus[0].junction_c == pytest.approx(fine.gpus[0].junction_c, abs=1.0)
    assert coarse.breaker.heat == pytest.approx(fine.breaker.heat, rel=0.02)


# Sensors


@pytest.mark.parametrize("name", NAMES)
def test_a_power_sensor_lags_by_its_vendors_window_and_has_a_gain_of_its_card(name: str) -> None:
    gpu, kind = card(name, sensor_gain=0.96), PLANT[name].gpu
    gpu.clock_limit_mhz = gpu.clock_mhz = 1000.0  # warm, so that power steps at once
    gpu.load = 1.0
    before_w = gpu.sensor_w
    run(gpu, SUBSTEP_S)
    true_w = gpu.board_w * kind.socket_to_board * 0.96
    run(gpu, kind.sensor_tau_s - SUBSTEP_S)
    assert gpu.sensor_w == pytest.approx(true_w + (before_w - true_w) / math.e, rel=0.03)
    run(gpu, 2.0)
    assert gpu.sensor_w == pytest.approx(true_w, rel=0.01)


def test_nvidias_meters_are_off_by_up_to_five_percent_card_by_card_and_amds_cover_the_socket() -> None:
    gains = [gpu.sensor_gain for seed in SEEDS for gpu in load_plant(BOX["green-3090"], seed).gpus]
    assert 0.95 <= min(gains) < 0.96 and 1.04 < max(gains) <= 1.05
    assert PLANT["green-3090"].gpu.socket_to_board == PLANT["green"].gpu.socket_to_board == 1.0
    shares = [gpu.socket_to_board for seed in SEEDS for gpu in load_plant(RED, seed).gpus]
    assert 0.81 <= min(shares) < 0.82 and 0.84 < max(shares) <= 0.85


def test_the_walls_meters_are_late_and_have_gains_of_their_own() -> None:
    kind = load_plant(RED, 3)
    plant = Plant.of(RED, kind)
    load_all(plant, 1.0)
    plant.advance(0.2)
    assert sum(plant.psu_meter_w) < 0.9 * plant.wall_w
    plant.advance(5.0)
    assert sum(plant.psu_meter_w) == pytest.approx(plant.wall_w * kind.psu.meter_gain, rel=0.01)
    assert plant.bmc_reading_w() == pytest.approx(plant.mean_wall_w() * kind.psu.bmc_gain)
    assert plant.volt_reading == pytest.approx(plant.line_v * kind.psu.volt_gain)
    assert plant.psu_out_w[0] == pytest.approx(plant.dc_w() * kind.psu.share)


def test_means_are_of_the_last_second(plant: Plant) -> None:
    plant.advance(5.0)
    load_all(plant, 1.0)
    plant.advance(0.5)
    assert plant.wall_w > plant.mean_wall_w() > 250
    plant.advance(3.0)
    assert plant.mean_wall_w() == pytest.approx(plant.wall_w, rel=0.01)
    assert plant.mean_line_v() == pytest.approx(plant.line_v, rel=0.01)


def test_energy_is_counted_and_wraps(plant: Plant) -> None:
    plant.cpu_energy_uj = KIND.cpu.energy_range_uj - 1e6
    plant.advance(1.0)
    assert plant.cpu_energy_uj == pytest.approx(KIND.cpu.idle_w * 1e6 - 1e6, rel=0.01)


def test_the_processor_obeys_its_cap_down_to_its_idle_watts(plant: Plant) -> None:
    plant.cpu_load = 1.0
    plant.advance(1.0)
    assert plant.cpu_w == pytest.approx(KIND.cpu.busy_w, rel=0.01)
    plant.cpu_cap_w = 120.0
    plant.advance(1.0)
    assert plant.cpu_w == pytest.approx(120.0, rel=0.01)
    plant.cpu_cap_w = 1.0
    plant.advance(1.0)
    assert plant.cpu_w == pytest.approx(KIND.cpu.idle_w, rel=0.01)


# Heat and air


def test_fans_stand_while_cool_and_turn_when_hot(plant: Plant) -> None:
    assert plant.gpus[0].fan_rpm == 0
    quiet_dba = plant.noise_dba()
    load_all(plant, 1.0)
    for gpu in plant.gpus:
        gpu.clock_limit_mhz = 1200
    for _ in range(400):
        plant.advance(1.0)
    assert plant.gpus[0].fan_rpm > KIND.gpu.fan_least_rpm
    assert plant.gpus[0].junction_c < RED.gpu.junction_crit_c
    assert plant.noise_dba() > quiet_dba + 5


def test_a_hot_room_makes_everything_hotter(plant: Plant) -> None:
    hot = Plant.of(RED, KIND)
    hot.ambient_c += 12
    for one in (plant, hot):
        load_all(one, 0.5)
        one.advance(120.0)
    assert hot.gpus[0].junction_c > plant.gpus[0].junction_c + 4
    # Its fans, which follow the processor, turn faster for it.
    assert hot.inlet_c == pytest.approx(plant.inlet_c + 12, abs=1.0)


# Supplies and line


@pytest.mark.parametrize(("share", "least", "most"), [(0.1, 0.85, 0.9), (0.4, 0.92, 0.93), (1.0, 0.88, 0.9)])
def test_supplies_are_best_at_half_load(share: float, least: float, most: float) -> None:
    assert least <= efficiency(share) <= most


def test_supplies_meet_80_plus_platinum() -> None:
    assert efficiency(0.2) >= 0.89 and efficiency(0.5) >= 0.92 and efficiency(1.0) >= 0.89


def test_the_power_factor_rises_with_load() -> None:
    factors = [power_factor(share / 20) for share in range(1, 21)]
    assert factors == sorted(factors)
    assert factors[-1] == 0.99


def test_the_line_sags_with_current(plant: Plant) -> None:
    before_v = plant.line_v
    load_all(plant, 1.0)
    plant.advance(2.0)
    assert plant.line_v == pytest.approx(KIND.line.volts - KIND.line.ohm * plant.line_a)
    assert plant.line_v < before_v - 1.0


def test_the_same_watts_are_more_amps_on_a_low_line(plant: Plant) -> None:
    load_all(plant, 0.3)
    plant.advance(3.0)
    amps, watts = plant.line_a, plant.wall_w
    plant.line_scale = 114 / 120
    plant.advance(3.0)
    assert plant.wall_w == pytest.approx(watts, rel=0.01)
    assert plant.line_a == pytest.approx(amps * 120 / 114, rel=0.02)


def test_what_else_is_on_the_circuit_sags_the_line_and_heats_the_breaker_but_is_not_the_boxs(plant: Plant) -> None:
    before_v, before_a = plant.line_v, plant.line_a
    plant.other_a = 10.0
    plant.advance(60.0)
    assert plant.line_v == pytest.approx(before_v - 10.0 * KIND.line.ohm, abs=0.2)
    assert plant.line_a == pytest.approx(before_a, rel=0.03)
    total = (plant.line_a + 10.0) / RED.circuit.amps
    assert plant.breaker.heat == pytest.approx(total**2 * (1 - math.exp(-60 / KIND.breaker.tau_s)), rel=0.05)


def test_on_another_outlet_the_same_box_draws_half_the_amps_from_a_larger_breaker() -> None:
    kitchen, charger = Plant.of(RED, KIND), Plant.of(RED, KIND, rating_a=50.0, volts=240.0)
    for plant in (kitchen, charger):
        load_all(plant, 0.5)
        plant.advance(10.0)
    assert charger.line_v == pytest.approx(240.0, abs=3.0)
    assert charger.line_a == pytest.approx(kitchen.line_a / 2, rel=0.03)
    assert charger.breaker_heat < 0.05 * kitchen.breaker_heat


def test_six_unlimited_cards_trip_the_breaker_when_arithmetic_says_so(plant: Plant) -> None:
    plant.breaker.heat = 0.64  # 80 % of the rating for a long time
    load_all(plant, 1.0)
    for gpu in plant.gpus:
        gpu.cap_w = RED.gpu.cap_max_w
    plant.cpu_load = 1.0
    plant.advance(2.0)
    load = (plant.line_a / plant.breaker.rating_a) ** 2
    while not plant.is_tripped and plant.time_s < 300:
        plant.advance(0.1)
    assert plant.is_tripped
    expected_s = KIND.breaker.tau_s * math.log((load - 0.64) / (load - plant.breaker.trip_heat))
    assert plant.time_s == pytest.approx(expected_s, rel=0.05)
    plant.advance(3.0)
    assert plant.wall_w == plant.line_v == plant.line_a == plant.dc_w() == 0.0
    assert [gpu.board_w for gpu in plant.gpus] == [0.0] * 6
    plant.reset_breaker()
    load_all(plant, 0.0)
    plant.advance(3.0)
    assert plant.line_v > 115 and 200 < plant.wall_w < 450  # the fans cool what was hot


def test_who_is_switched_off_draws_nothing_while_the_circuit_lives_on(plant: Plant) -> None:
    load_all(plant, 1.0)
    plant.advance(1.0)
    plant.other_a = 5.0
    plant.power_off()
    plant.advance(2.0)
    assert (plant.wall_w, plant.line_a) == (0.0, 0.0)
    assert plant.cpu_w == pytest.approx(0.0, abs=1e-6)
    assert not plant.has_power and not plant.is_tripped
    assert plant.line_v == pytest.approx(KIND.line.volts - 5.0 * KIND.line.ohm)
    plant.reset_breaker()
    plant.advance(1.0)
    assert plant.has_power and plant.wall_w > 500


# Numbers


def test_a_lag_is_exact_for_any_step() -> None:
    one = toward(0.0, 1.0, 1.0, 0.5)
    many = 0.0
    for _ in range(100):
        many = toward(many, 1.0, 0.01, 0.5)
    assert many == pytest.approx(one)


def test_how_much_faster_than_life_six_loaded_cards_run() -> None:
    """Asserts nothing about speed: a shared machine proves none. Run with -s to see it."""
    plant = Plant.of(RED, KIND)
    load_all(plant, 1.0)
    for gpu in plant.gpus:
        gpu.clock_limit_mhz = 1400.0
    began_s = time.process_time()
    for _ in range(2000):
        plant.step(SUBSTEP_S)
    print(f"six loaded cards: {20 / (time.process_time() - began_s):.0f} x real time, without a governor")
    assert plant.time_s == pytest.approx(20.0)


# Files


BROKEN = [
    ("idle_w = {", "idel_w = {", "plant.gpu: unknown key 'idel_w'"),
    ("static_w = { value = 45.0, ", "static_w = { ", "plant.gpu.static_w: key 'value' is missing"),
    ("static_w = { value = 45.0, ", "static_w = { value = 60.0, ", "plant.gpu.static_w: low ≤ value ≤ high"),
    ("static_w = { value = 45.0, ", "static_w = { value = nan, ", "'value' is nan"),
    ('source = "TDP 200 W", confidence = "M"', 'source = "TDP 200 W", confidence = "X"', "plant.cpu.busy_w"),
    ("[plant.gpu.decode]", "[plant.gpu.decoding]", "unknown key 'decoding'"),
    ("[plant.line]", "[plant.lines]", "table 'plant.line' is missing"),
]


@pytest.mark.parametrize(("old", "new", "words"), BROKEN)
def test_a_plant_that_cannot_be_meant_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = (BOXES / "red.toml").read_text()
    assert old in text
    (tmp_path / "odd.toml").write_text(text.replace(old, new))
    with pytest.raises(TinyboxError) as caught:
        load_plant(load_box("odd", tmp_path), own=tmp_path)
    assert words in caught.value.message and "odd.toml" in caught.value.message
    assert caught.value.hint


def test_a_box_without_a_plant_cannot_be_twinned(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text((BOXES / "red.toml").read_text().split("[plant.gpu]")[0])
    with pytest.raises(TinyboxError, match="has no plant"):
        load_plant(load_box("odd", tmp_path), own=tmp_path)


# Levers and faults


@pytest.mark.parametrize("text", ["s 1 400", "s 1 9000", "s 0 1000", "m 1 1000", "s 1", "", "s 1 -5", "x"])
def test_overdrive_refuses_what_the_driver_refuses(plant: Plant, text: str) -> None:
    with pytest.raises(OSError, match="Errno 22"):
        Overdrive(plant.gpus[0], RED.gpu).write(text)


def test_overdrive_takes_force_when_committed(plant: Plant) -> None:
    overdrive = Overdrive(plant.gpus[0], RED.gpu)
    overdrive.write("s 1 1200\n")
    assert plant.gpus[0].clock_limit_mhz == RED.gpu.clock_max_mhz
    overdrive.write("c\n")
    assert plant.gpus[0].clock_limit_mhz == 1200
    assert "1: 1200Mhz" in overdrive.table()
    overdrive.write("r")
    assert plant.gpus[0].clock_limit_mhz == RED.gpu.clock_max_mhz


def test_the_performance_level_low_is_the_lowest_clock(plant: Plant) -> None:
    gpu = plant.gpus[0]
    overdrive, gpu.load = Overdrive(gpu, RED.gpu), 1.0
    plant.advance(1.0)
    overdrive.write_level("low\n")
    plant.advance(1.0)
    assert (overdrive.level(), round(gpu.clock_mhz)) == ("low\n", RED.gpu.clock_min_mhz)
    assert f"1: {RED.gpu.clock_min_mhz}Mhz *" in overdrive.levels()
    overdrive.write_level("auto")
    plant.advance(1.0)
    assert gpu.clock_mhz > 2000
    with pytest.raises(OSError, match="Errno 22"):
        overdrive.write_level("lowest")


def test_every_fault_is_known_by_its_id() -> None:
    ids = [fault.id for fault in known_faults(RED)]
    assert len(ids) == len(set(ids))
    assert [find_fault(fault_id, RED).id for fault_id in ids] == ids
    with pytest.raises(TinyboxError, match="gpu/9:gone"):
        find_fault("gpu/9:gone", RED)
