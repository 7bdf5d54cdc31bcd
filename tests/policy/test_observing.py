"""A box that is not armed: the same thoughts, no deeds, and no complaint that nobody obeys."""

from dataclasses import replace

from tests.policy.conftest import Governed, machine
from tinybox.core.box import Box
from tinybox.core.config import Config, PowerConfig
from tinybox.policy.decide import NOT_ARMED


def observing(box: Box, *, load: float, config: Config | None = None) -> Governed:
    rig = Governed(box, replace(machine(box), is_armed=False), config or Config())
    for index in range(len(box.gpu.slots)):
        rig.change(index, busy_pct=100.0 * load, power_w=15.0 + 270.0 * load, clock_mhz=2400)
    return rig


def test_nothing_is_asked_for_and_what_would_be_is_said(red: Box) -> None:
    rig = observing(red, load=1.0).run(30.0)
    assert rig.written == []
    assert rig.decision.actions == ()
    assert rig.decision.reason.startswith(f"{NOT_ARMED}; armed, it would say: 6 cards set to clock ")


def test_cards_that_were_told_nothing_are_not_called_disobedient(red: Box) -> None:
    rig = observing(red, load=1.0).run(30.0)
    words = " ".join(alert.reason for alert in rig.decision.alerts)
    assert "give way" not in words and "counts as absent" not in words and "shares held" not in words
    assert "limits in force allow the cards" in words  # that is true, and somebody should know
    assert all(card.budget > 8 for card in rig.memory.power.cards.cards.values())


def test_no_last_resort_is_taken_nor_said_to_be(red: Box) -> None:
    config = Config(power=PowerConfig(guarantee="bounded"))
    rig = observing(red, load=1.0, config=config)
    psus = tuple(replace(psu, in_w=1300.0, in_a=11.0) for psu in rig.snapshot.psus)
    rig.snapshot = replace(rig.snapshot, psus=psus)
    rig.run(120.0)
    assert rig.decision.power.breaker_heat > 0.6
    assert rig.written == []
    words = " ".join(alert.reason for alert in rig.decision.alerts)
    assert not any(step in words for step in ("work is frozen", "asked to end", "switches off"))


def test_armed_again_it_acts_at_once(red: Box) -> None:
    rig = observing(red, load=1.0).run(5.0)
    rig.snapshot = replace(rig.snapshot, is_armed=True)
    assert len(rig.turn().actions) >= len(red.gpu.slots)
