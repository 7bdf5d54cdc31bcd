"""Fan commands to the byte, and what is made of controllers that refuse, lie, or belong to somebody else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinybox.core.actions import ReleaseFans, SetFanDuty
from tinybox.core.errors import HardwareError
from tinybox.hw.fankeeper import FanKeeper, Trial
from tinybox.hw.fans import ASROCK, AST2500, AST2600, SUPERMICRO, AsrockFans, FanFamily, SupermicroFans, find_family

AUTO = bytes(16)
RPM = {"1": 840.0, "2": 840.0}


class Wire:
    """A controller that answers from a table, and takes everything that the table does not know; all that it heard.

    `follows` makes a written duty read back.
    """

    def __init__(self, answers: dict[bytes, bytes | str], *, follows: bool = True) -> None:
        self.answers = dict(answers)
        self.heard: list[bytes] = []
        self._follows = follows

    def raw(self, request: bytes) -> bytes:
        self.heard.append(request)
        answer = self.answers.get(request, b"")
        if isinstance(answer, str):
            raise HardwareError(answer)
        for dialect in (AST2500, AST2600):
            if self._follows and request.startswith(dialect.set_duties) and len(request) > 16:
                self.answers[dialect.get_duties] = request[-16:]
            if request.startswith(dialect.set_modes) and len(request) > 16:
                self.answers[dialect.get_modes] = request[-16:]
        if self._follows and request[:4] == b"\x30\x70\x66\x01":
            self.answers[b"\x30\x70\x66\x00" + request[4:5]] = request[5:]
        if request[:3] == b"\x30\x45\x01":
            self.answers[b"\x30\x45\x00"] = request[3:]
        return answer

    def argv(self, request: bytes) -> tuple[str, ...]:
        return ("ipmitool", "raw", *(f"0x{byte:02x}" for byte in request))

    @property
    def written(self) -> list[str]:
        """What it was told, without what it was asked."""
        reads = (AST2500.get_modes, AST2500.get_duties, AST2600.get_modes, AST2600.get_duties, b"\x30\x45\x00")
        return [one.hex(" ") for one in self.heard if one not in reads and one[:4] != b"\x30\x70\x66\x00"]


def ast2500() -> dict[bytes, bytes | str]:
    return {AST2500.get_duties: bytes([30] * 16), AST2500.get_modes: AUTO}


def ast2600() -> dict[bytes, bytes | str]:
    return {
        AST2500.get_duties: "rsp=0xc1",
        AST2600.get_duties: bytes([30] * 16),
        AST2600.get_modes: AUTO,
    }


def supermicro() -> dict[bytes, bytes | str]:
    return {b"\x30\x45\x00": b"\x02", b"\x30\x70\x66\x00\x00": b"\x32", b"\x30\x70\x66\x00\x01": b"\x32"}


SIXTEEN_01, SIXTEEN_02, SIXTEEN_3C, SIXTEEN_00 = (" ".join([byte] * 16) for byte in ("01", "02", "3c", "00"))
FAMILIES = [
    (ASROCK, ast2500, "asrock-ast2500", [f"3a d8 {SIXTEEN_01}", f"3a d6 {SIXTEEN_3C}"], [f"3a d8 {SIXTEEN_00}"]),
    (
        ASROCK,
        ast2600,
        "asrock-ast2600",
        [f"3a d0 11 {SIXTEEN_02}", f"3a d0 0e {SIXTEEN_3C}"],
        [f"3a d0 11 {SIXTEEN_00}"],
    ),
    (
        *(SUPERMICRO, supermicro, "supermicro"),
        ["30 45 01 01", "30 70 66 01 00 3c", "30 70 66 01 01 3c"],
        ["30 45 01 02"],
    ),
]


@pytest.mark.parametrize(("maker", "table", "name", "writes", "release"), FAMILIES)
def test_each_family_is_found_by_reading_and_driven_by_its_own_bytes(
    maker: int, table: Callable[[], dict[bytes, bytes | str]], name: str, writes: list[str], release: list[str]
) -> None:
    wire = Wire(table())
    family = find_family(maker, wire.raw)
    assert family is not None
    assert (family.name, family.is_manual(), wire.written) == (name, False, [])
    family.set_duty(60.0)
    assert wire.written == writes
    assert family.is_manual()
    assert set(family.duties()) == {60.0}
    assert [request.hex(" ") for request in family.release_requests()] == release


@pytest.mark.parametrize("maker", [None, 0, 674, ASROCK, SUPERMICRO])
def test_a_controller_that_answers_to_nothing_is_never_written_to(maker: int | None) -> None:
    class Deaf(Wire):
        def raw(self, request: bytes) -> bytes:
            super().raw(request)
            raise HardwareError("rsp=0xc1")

    wire = Deaf({})
    assert find_family(maker, wire.raw) is None
    assert wire.written == []


@pytest.mark.parametrize(
    "said",
    [b"", b"\x1e", b"\x1e" * 15, b"\x1e" * 17, b"\xff" * 16, b"\x1e" * 15 + b"\x65"],
    ids=lambda said: said.hex(),
)
def test_an_answer_that_is_not_sixteen_percentages_is_no_answer(said: bytes) -> None:
    assert not AsrockFans(Wire({AST2500.get_duties: said}).raw, AST2500).probe()


def test_a_board_that_counts_to_255_is_left_alone() -> None:
    assert not SupermicroFans(Wire({**supermicro(), b"\x30\x70\x66\x00\x00": b"\xff"}).raw).probe()


def test_a_board_with_one_zone_has_one() -> None:
    wire = Wire({**supermicro(), b"\x30\x70\x66\x00\x01": "rsp=0xcc"})
    family = SupermicroFans(wire.raw)
    family.set_duty(60.0)
    assert family.duties() == (60.0,)
    assert [family.slot_of(fan) for fan in ("1", "4", "A")] == [0, 0, 1]


@given(st.floats(allow_nan=False))
def test_no_duty_is_below_what_boards_take_or_above_all(pct: float) -> None:
    wire = Wire(ast2500())
    AsrockFans(wire.raw, AST2500).set_duty(pct)
    assert 20 <= wire.heard[1][-1] <= 100


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_whatever_bytes_come_back_are_a_reading_or_an_error(duties: bytes, modes: bytes) -> None:
    answers: dict[bytes, bytes | str] = {AST2500.get_duties: duties, AST2500.get_modes: modes, b"\x30\x45\x00": modes}
    wire = Wire({**answers, b"\x30\x70\x66\x00\x00": duties})
    families: list[FanFamily] = [AsrockFans(wire.raw, AST2500), SupermicroFans(wire.raw)]
    for family in families:
        if family.probe():
            assert all(0 <= duty <= 100 for duty in family.duties())
    assert wire.written == []


def kept(tmp_path: Path, wire: Wire) -> FanKeeper:
    keeper = FanKeeper(wire, tmp_path / "run")
    assert keeper.tend(0.0, ASROCK, RPM) == ()
    assert (keeper.control, keeper.duties, wire.written) == ("automatic", {"1": 30.0, "2": 30.0}, [])
    return keeper


def test_what_is_asked_is_done_in_the_next_round_and_given_back_at_the_end(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    keeper = kept(tmp_path, wire)
    keeper.want(SetFanDuty(60.0))
    assert wire.written == []
    assert keeper.tend(2.0, ASROCK, RPM) == ()
    assert (keeper.control, keeper.duties) == ("ours", {"1": 60.0, "2": 60.0})
    assert (tmp_path / "run/fans-taken").read_text() == f"ipmitool raw 0x3a 0xd8{' 0x00' * 16}\n"
    keeper.release()
    assert wire.written[-1] == f"3a d8 {SIXTEEN_00}"
    assert not (tmp_path / "run/fans-taken").exists()
    count = len(wire.heard)
    keeper.release()
    assert len(wire.heard) == count, "given back once"


def test_the_same_duty_again_is_not_written_again(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    keeper = kept(tmp_path, wire)
    for now_s in (2.0, 4.0, 6.0):
        keeper.want(SetFanDuty(60.0))
        keeper.tend(now_s, ASROCK, RPM)
    assert len(wire.written) == 2


def test_who_never_took_the_fans_gives_nothing_back(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    kept(tmp_path, wire).release()
    assert wire.written == []


def test_fans_that_a_killed_daemon_left_taken_are_given_back_by_its_own_note(tmp_path: Path) -> None:
    wire = Wire(supermicro())
    before = FanKeeper(wire, tmp_path / "run")
    before.want(SetFanDuty(60.0))
    before.tend(0.0, SUPERMICRO, RPM)
    after = FanKeeper(wire, tmp_path / "run")
    after.recall()
    after.tend(0.0, SUPERMICRO, RPM)
    assert wire.written[-1] == "30 45 01 02", "the mode of before, which the new one cannot know"
    assert after.control == "automatic"
    assert not (tmp_path / "run/fans-taken").exists()


@pytest.mark.parametrize("note", ["", "\n", "rm -rf /\n", "ipmitool raw zz\n", "ipmitool raw 0x300\n"])
def test_a_note_that_is_none_still_gives_the_fans_back(tmp_path: Path, note: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/fans-taken").write_text(note)
    wire = Wire(ast2500())
    keeper = FanKeeper(wire, tmp_path / "run")
    keeper.recall()
    assert keeper.tend(0.0, ASROCK, RPM) == ()
    assert wire.written == [f"3a d8 {SIXTEEN_00}"]


def test_fans_that_were_given_back_meanwhile_are_noted_again_when_they_are_taken_again(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    keeper = kept(tmp_path, wire)
    keeper.want(SetFanDuty(60.0))
    keeper.tend(2.0, ASROCK, RPM)
    (tmp_path / "run/fans-taken").unlink()  # as the failsafe does once it gave them back
    keeper.want(SetFanDuty(64.0))
    keeper.tend(4.0, ASROCK, RPM)
    assert (tmp_path / "run/fans-taken").exists()


def test_a_refused_duty_gives_the_fans_back_at_once_and_is_said(tmp_path: Path) -> None:
    wire = Wire({**ast2500(), AST2500.set_duties + b"\x3c" * 16: "rsp=0xcc: Invalid data field"})
    keeper = kept(tmp_path, wire)
    keeper.want(SetFanDuty(60.0))
    (fault,) = keeper.tend(2.0, ASROCK, RPM)
    assert (fault.device, "0xcc" in fault.reason) == ("fans", True)
    assert wire.written[-1] == f"3a d8 {SIXTEEN_00}"
    assert keeper.control == "automatic"


def test_a_duty_that_does_not_read_back_is_said(tmp_path: Path) -> None:
    wire = Wire(ast2500(), follows=False)
    keeper = kept(tmp_path, wire)
    keeper.want(SetFanDuty(60.0))
    (fault,) = keeper.tend(2.0, ASROCK, RPM)
    assert "hold 30, 30" in fault.reason
    assert "after 60 % was written" in fault.reason
    assert wire.written[-1] == f"3a d8 {SIXTEEN_00}"


def test_fans_that_do_not_follow_are_given_back_and_it_is_said(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    keeper = kept(tmp_path, wire)
    keeper.want(SetFanDuty(60.0))
    assert keeper.tend(2.0, ASROCK, RPM) == ()
    (fault,) = keeper.tend(30.0, ASROCK, RPM)
    assert "no tachometer followed: 840 rpm before, 840 rpm now; they were given back" in fault.reason
    assert keeper.control == "automatic"


@pytest.mark.parametrize(
    ("before", "after", "rpm", "is_well"),
    [
        (30.0, 60.0, {"1": 1700.0, "2": 840.0}, True),  # one fan stands for all: another may be stalled
        (60.0, 30.0, {"1": 700.0, "2": 700.0}, True),
        (30.0, 60.0, {"1": 700.0, "2": 700.0}, False),
        (30.0, 35.0, RPM, True),  # too small a step to tell
        (30.0, 60.0, {}, True),  # nothing to tell by
        (30.0, 60.0, {"1": 850.0, "2": 845.0}, False),
    ],
)
def test_tachometers_have_the_last_word(before: float, after: float, rpm: dict[str, float], is_well: bool) -> None:
    assert (Trial(15.0, before, after, RPM).fault(rpm) is None) == is_well


def test_somebody_else_at_the_fans_is_seen_with_and_without_our_own_duty(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    keeper = kept(tmp_path, wire)
    wire.raw(AST2500.set_modes + b"\x01" * 16)
    keeper.tend(20.0, ASROCK, RPM)
    assert keeper.control == "other"
    keeper.want(SetFanDuty(60.0))
    keeper.tend(22.0, ASROCK, RPM)
    assert keeper.control == "ours"
    wire.raw(AST2500.set_duties + b"\x28" * 16)
    keeper.tend(34.0, ASROCK, {"1": 1800.0, "2": 1800.0})
    assert keeper.control == "other"


def test_firmware_that_does_not_tell_the_mode_leaves_the_driver_unknown(tmp_path: Path) -> None:
    wire = Wire({**ast2500(), AST2500.get_modes: "rsp=0xcc"})
    keeper = FanKeeper(wire, None)
    keeper.tend(0.0, ASROCK, RPM)
    assert (keeper.control, keeper.duties) == (None, {"1": 30.0, "2": 30.0})


def test_a_controller_that_nobody_knows_says_so_when_it_is_asked(tmp_path: Path) -> None:
    keeper = FanKeeper(Wire({}), None)
    assert keeper.tend(0.0, 674, RPM) == ()
    for action in (SetFanDuty(50.0), ReleaseFans()):
        keeper.want(action)
        (fault,) = keeper.tend(1.0, 674, RPM)
        assert "nobody knows how" in fault.reason


def test_a_controller_that_missed_the_first_question_is_asked_again_soon(tmp_path: Path) -> None:
    wire, answers = Wire({}), ast2500()
    keeper = FanKeeper(wire, None)
    keeper.tend(0.0, ASROCK, RPM)
    assert keeper.duties == {}
    wire.answers.update(answers)
    keeper.tend(2.0, ASROCK, RPM)
    assert keeper.duties == {}, "though not with every round"
    keeper.tend(12.0, ASROCK, RPM)
    assert keeper.duties == {"1": 30.0, "2": 30.0}


def test_duties_are_as_old_as_the_speeds(tmp_path: Path) -> None:
    wire = Wire(ast2500())
    keeper = kept(tmp_path, wire)
    wire.answers[AST2500.get_duties] = bytes([50] * 16)
    keeper.tend(2.0, ASROCK, RPM)
    assert keeper.duties == {"1": 50.0, "2": 50.0}
