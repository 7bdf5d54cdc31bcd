"""What follows from the kernel's news of devices, and how little a storm of it costs."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinybox.core.snapshot import KernelLine, Wedged
from tinybox.hw.host import Host
from tinybox.hw.hotplug import MOST_WEDGED, Event, Hotplug, Ledger, LostDrive, News, event_of, slot_of, wedged_of

CARD, DRIVE = "0000:63:00.0", "0000:c2:00.0"


class Told:
    """A device as udev tells of it."""

    def __init__(self, action: str | None, path: str, subsystem: str | None, **properties: str) -> None:
        self.action, self.device_path, self.subsystem, self.properties = action, path, subsystem, properties
        self.sys_name = path.rpartition("/")[2]


def looked(news: News) -> News:
    """Without what only the log is compared with."""
    return replace(news, bound=())


def after(*events: tuple[str, str, str, str]) -> Ledger:
    """What a row of (subsystem, action, name, address) leads to, one each second."""
    ledger = Ledger()
    for second, (subsystem, action, name, address) in enumerate(events):
        ledger.note(Event(action, subsystem, name, address), float(second), 1e9 + second)
    return ledger


NEWS = [
    ("nothing happened", (), News()),
    ("a card went", (("drm", "remove", "card3", CARD), ("pci", "remove", CARD, CARD)), News(True, True)),
    ("a monitor was plugged into a card", (("drm", "change", "card3", CARD),), News()),
    ("a driver's queue came and went", (("nvme", "change", "nvme1", DRIVE),), News()),
    (
        "a drive went",
        (("nvme", "remove", "nvme2", DRIVE),),
        News(is_drive=True, lost=(LostDrive("drive/nvme2", DRIVE, 0.0),)),
    ),
    (
        "a drive went and came back under another name",
        (("nvme", "remove", "nvme2", DRIVE), ("nvme", "add", "nvme7", DRIVE)),
        News(is_drive=True),
    ),
    ("a fabric's controller is no drive of ours", (("nvme", "remove", "nvme-fabrics", DRIVE),), News()),
]


@pytest.mark.parametrize(("why", "events", "news"), NEWS, ids=[row[0] for row in NEWS])
def test_what_there_is_to_look_at(why: str, events: tuple[tuple[str, str, str, str], ...], news: News) -> None:
    assert looked(after(*events).take()) == news, why


def test_a_look_is_asked_for_once_and_what_is_lost_stays_lost() -> None:
    ledger = after(("nvme", "remove", "nvme2", DRIVE), ("pci", "remove", CARD, CARD))
    lost = (LostDrive("drive/nvme2", DRIVE, 0.0),)
    assert looked(ledger.take()) == News(True, True, lost=lost)
    assert looked(ledger.take()) == News(lost=lost)


@pytest.mark.parametrize("action", ["bind", "remove", "add"])
def test_a_wedged_card_is_one_until_it_is_bound_anew_or_gone(action: str) -> None:
    event = event_of(Told("change", f"/devices/pci0000:00/{CARD}/drm/card3", "drm", WEDGED="rebind,bus-reset"))
    assert event == Event("change", "drm", "card3", CARD, ("rebind", "bus-reset"))
    ledger = Ledger()
    assert ledger.note(event, 5.0, 1e9)
    assert ledger.take().wedged == (Wedged(CARD, ("rebind", "bus-reset"), 1e9),)
    assert ledger.take().wedged
    ledger.note(Event(action, "pci", CARD, CARD), 6.0, 1e9)
    assert ledger.take().wedged == ()


def test_a_driver_that_recovered_by_itself_wedges_nothing() -> None:
    event = event_of(Told("change", f"/devices/pci0000:00/{CARD}/drm/card3", "drm", WEDGED="none"))
    assert event is not None
    ledger = Ledger()
    ledger.note(event, 5.0, 1e9)
    assert ledger.take().wedged == ()


def test_what_the_log_said_before_anybody_listened_counts_until_a_driver_is_bound() -> None:
    said = KernelLine(100.0, 6, f"amdgpu {CARD}: [drm] device wedged, needs recovery")
    other = KernelLine(100.0, 6, f"amdgpu {DRIVE}: [drm] device wedged, but recovered through reset")
    assert wedged_of(News(), (said, other), 130.0, 1e9) == (Wedged(CARD, (), 1e9 - 30.0),)
    heard = News(wedged=(Wedged(CARD, ("rebind",), 5.0),))
    assert wedged_of(heard, (said,), 130.0, 1e9) == heard.wedged
    ledger = after(("pci", "bind", CARD, CARD))
    assert wedged_of(ledger.take(), (said,), 130.0, 1e9)  # before the line
    ledger.note(Event("bind", "pci", CARD, CARD), 120.0, 1e9)
    assert wedged_of(ledger.take(), (said,), 130.0, 1e9) == ()


def test_the_last_function_of_a_path_is_the_device() -> None:
    path = f"/devices/pci0000:60/0000:60:03.1/0000:61:00.0/{CARD}"
    event = event_of(Told("remove", path, "pci"))
    assert event is not None and event.address == CARD
    assert event_of(Told("add", "/devices/virtual/nvme-fabrics/ctl/nvme9", "nvme")) is None


@given(
    st.lists(
        st.builds(
            Told,
            st.none() | st.sampled_from(["add", "remove", "change", "bind", "unbind"]) | st.text(),
            st.sampled_from([f"/devices/pci0000:00/{CARD}", f"/x/{DRIVE}/nvme/nvme2"]) | st.text(),
            st.none() | st.sampled_from(["pci", "drm", "nvme"]) | st.text(),
        ),
        max_size=50,
    )
)
def test_no_news_is_too_strange(devices: list[Told]) -> None:
    ledger = Ledger()
    for device in devices:
        if (event := event_of(device)) is not None:
            ledger.note(event, 0.0, 0.0)
    news = ledger.take()
    assert ledger.take() == News(wedged=news.wedged, lost=news.lost, bound=news.bound)


def test_a_storm_over_ever_new_addresses_is_bounded() -> None:
    ledger = Ledger()
    for i in range(100_000):
        address = f"{i:04x}:00:00.0"
        ledger.note(Event("change", "drm", "card0", address, ("rebind",)), 0.0, 0.0)
        ledger.note(Event("remove", "nvme", f"nvme{i}", address), 0.0, 0.0)
        ledger.note(Event("bind", "pci", address, f"{i:04x}:01:00.0"), 0.0, 0.0)
    news = ledger.take()
    assert len(news.wedged) == len(news.lost) == len(news.bound) == MOST_WEDGED


def test_an_overflow_means_looking_at_everything() -> None:
    ledger = Ledger()
    ledger.note_overflow()
    assert ledger.take() == News(True, True)


def test_a_recorded_machine_hears_nothing_of_this_one(tmp_path: Path) -> None:
    hotplug = Hotplug(Host(tmp_path))
    hotplug.start(lambda: pytest.fail("woken"))
    assert hotplug.take() == News()
    hotplug.stop()


def test_the_boards_own_name_of_a_slot_is_found(tmp_path: Path) -> None:
    for name, address in (("3", "0000:c1:00\n"), ("4-1", "0000:c2:00\n")):
        (tmp_path / "sys/bus/pci/slots" / name).mkdir(parents=True)
        (tmp_path / "sys/bus/pci/slots" / name / "address").write_text(address)
    assert slot_of(Host(tmp_path), DRIVE) == "4-1"
    assert slot_of(Host(tmp_path), CARD) == ""
