"""A plant measured as an owner's box would be: one card at a time, by its own sensors and the supplies' meters."""

from tinybox.core.box import Box, ClockPoint
from tinybox.core.commission import CardCommission, Commission
from tinybox.twin.constants import PlantKind
from tinybox.twin.plant import SUBSTEP_S, Plant

POINTS = 9
SETTLE_S = 1.5  # the meters are a quarter of a second late


def commission(box: Box, kind: PlantKind) -> Commission:
    """Sweep every card's clock under the hardest kind of work."""
    plant = Plant.of(box, kind)
    return Commission(box.name, tuple(_sweep(plant, index) for index in range(len(plant.gpus))))


def _sweep(plant: Plant, index: int) -> CardCommission:
    """One card, from its lowest clock to its highest."""
    box, gpu = plant.box, plant.gpus[index]
    card = box.kinds[index]
    idle_w = sum(plant.psu_meter_w)
    gpu.load, gpu.work_kind, gpu.cap_w = 1.0, "train", card.cap_max_w
    least, most = card.clock_min_mhz, card.clock_max_mhz
    clocks = [round((least + (most - least) * i / (POINTS - 1)) / 10) * 10 for i in range(POINTS)]
    readings = []
    for clock_mhz in clocks:
        gpu.clock_limit_mhz = clock_mhz
        for _ in range(round(SETTLE_S / SUBSTEP_S)):
            plant.step(SUBSTEP_S)
        readings.append(gpu.sensor_w)
    board_w = card.board_power_idle_w + (sum(plant.psu_meter_w) - idle_w) * box.psu.efficiency_nominal
    ratio = readings[-1] / board_w
    gpu.load = 0.0
    gpu.factory_limits()
    for _ in range(round(SETTLE_S / SUBSTEP_S)):
        plant.step(SUBSTEP_S)
    points, top_w = [], 0.0
    for clock_mhz, reading_w in zip(clocks, readings, strict=True):
        top_w = max(top_w, reading_w / ratio)
        points.append(ClockPoint(clock_mhz, top_w))
    return CardCommission(f"gpu/{index}", box.slots[index], ratio, tuple(points))
