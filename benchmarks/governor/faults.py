"""What goes wrong in the middle of a run: sensors that fail or lie, a card that leaves, a warm room."""

from collections.abc import Callable
from dataclasses import replace

from tinybox.core.snapshot import Bmc, Fault, Gpu, Psu, Snapshot
from tinybox.replay.run import Event
from tinybox.twin.breaker import Breaker
from tinybox.twin.plant import Plant

Distort = Callable[[Snapshot], Snapshot]
FROM_S, TO_S = 20.0, 45.0
CARD = 3


def between(change: Distort) -> Distort:
    """Distorted from FROM_S until TO_S."""
    return lambda snapshot: change(snapshot) if FROM_S <= snapshot.time_s < TO_S else snapshot


def with_card(snapshot: Snapshot, change: Callable[[Gpu], Gpu]) -> Snapshot:
    """One card's readings replaced."""
    gpus = tuple(change(gpu) if index == CARD else gpu for index, gpu in enumerate(snapshot.gpus))
    return replace(snapshot, gpus=gpus)


def with_fault(snapshot: Snapshot, device: str, reason: str) -> Snapshot:
    """As a driver tells of what it could not read."""
    return replace(snapshot, faults=(*snapshot.faults, Fault(device, reason)))


def card_unreadable() -> Distort:
    """One card's power is None."""

    def change(snapshot: Snapshot) -> Snapshot:
        snapshot = with_fault(snapshot, f"gpu/{CARD}", "power could not be read")
        return with_card(snapshot, lambda gpu: replace(gpu, power_w=None))

    return between(change)


def card_frozen() -> Distort:
    """One card's power stays what it was when the fault began."""
    kept: list[float | None] = []

    def change(snapshot: Snapshot) -> Snapshot:
        if not kept:
            kept.append(snapshot.gpus[CARD].power_w)
        return with_card(snapshot, lambda gpu: replace(gpu, power_w=kept[0]))

    return between(change)


def psus_stuck() -> Distort:
    """Both supplies' meters repeat themselves to the digit."""
    kept: list[tuple[Psu, ...]] = []

    def change(snapshot: Snapshot) -> Snapshot:
        if not kept:
            kept.append(snapshot.psus)
        psus = [replace(psu, in_w=old.in_w, out_w=old.out_w) for psu, old in zip(snapshot.psus, kept[0], strict=True)]
        return replace(snapshot, psus=tuple(psus))

    return between(change)


def psu_tenfold() -> Distort:
    """One supply's meter tells ten times its watts."""

    def change(snapshot: Snapshot) -> Snapshot:
        first, *others = snapshot.psus
        if first.in_w is None:
            return snapshot
        return replace(snapshot, psus=(replace(first, in_w=10 * first.in_w), *others))

    return between(change)


def bmc_only() -> Distort:
    """No supply can be asked; the slow controller still can."""
    return between(lambda snapshot: replace(snapshot, psus=()))


def no_meter() -> Distort:
    """Neither supplies nor controller tell anything: watts and volts are estimates."""
    return between(lambda snapshot: replace(snapshot, psus=(), bmc=Bmc()))


def no_volts() -> Distort:
    """Nobody tells the line's volts."""

    def change(snapshot: Snapshot) -> Snapshot:
        psus = tuple(replace(psu, in_v=None, in_a=None) for psu in snapshot.psus)
        return replace(snapshot, psus=psus, bmc=replace(snapshot.bmc, line_v=None))

    return between(change)


def no_cpu_power() -> Distort:
    """RAPL cannot be read."""

    def change(snapshot: Snapshot) -> Snapshot:
        snapshot = with_fault(snapshot, "cpu", "power could not be read")
        return replace(snapshot, cpu=replace(snapshot.cpu, power_w=None))

    return between(change)


def card_leaves() -> tuple[Event, ...]:
    """A card falls off the bus and comes back with the limits of the factory."""

    def leave(plant: Plant) -> None:
        plant.gpus[CARD].is_present = False

    def come_back(plant: Plant) -> None:
        plant.gpus[CARD].is_present = True
        plant.gpus[CARD].factory_limits()

    return (Event(FROM_S, leave), Event(TO_S, come_back))


def room_at(ambient_c: float) -> tuple[Event, ...]:
    """A warm room from the start: the breaker in it trips earlier."""

    def warm(plant: Plant) -> None:
        plant.ambient_c = ambient_c
        plant.breaker.trip_heat = Breaker.of(plant.kind.breaker, plant.breaker.rating_a, ambient_c).trip_heat

    return (Event(0.0, warm),)
