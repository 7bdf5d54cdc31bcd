"""The contract of `tinybox-governor-pipe`: a snapshot a line in, a decision a line out, with any plant between."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinybox.core.box import load_box
from tinybox.core.config import Config, load_config
from tinybox.core.errors import TinyboxError
from tinybox.replay.pipe import by_table, decisions
from tinybox.replay.policies import NAMES

PIPE = str(Path(sys.executable).parent / "tinybox-governor-pipe")
RED = load_box("red")
Document = dict[str, Any]


def least(time_s: float, **changes: object) -> Document:
    """What the contract needs and nothing else."""
    card = {"power_w": 200.0, "busy_pct": 100.0, "clock_limit_mhz": 2965, "clock_mhz": 2900, **changes}
    return {"time_s": time_s, "gpus": [{"id": f"gpu/{index}", **card} for index in range(6)]}


def answered(*documents: object, policy: str = "governor", config: Config | None = None) -> list[Document]:
    """The filter's answers, in this process."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in documents]
    return [json.loads(line) for line in decisions(lines, RED, config or Config(box="red"), policy, by_table(RED))]


def piped(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [PIPE, "--box", "red", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_the_least_that_is_needed_is_enough() -> None:
    (first,) = answered(least(0.0))
    assert set(first) == {"time_s", "actions", "reason", "period_s", "power", "alerts"}
    assert first["time_s"] == 0.0
    assert {"do", "device", "clock_mhz"} == set(first["actions"][0])
    assert first["power"]["guarantee"] == "bounded"
    assert first["power"]["wall_source"] == "estimate"


def test_a_plant_of_ten_lines_closes_the_loop_and_the_promise_is_kept() -> None:
    def plant(process: "subprocess.Popen[str]", seconds: float) -> Iterator[tuple[float, float]]:
        limits, time_s, meter_w = [2965] * 6, 0.0, 2600.0
        while time_s < seconds:
            watts = [18.0 + 380.0 * (limit / 2965) ** 2.2 for limit in limits]
            wall_w = (sum(watts) + 150.0) / 0.92
            yield time_s, wall_w / 118.0 / 0.99
            gpus = [
                {
                    "id": f"gpu/{i}",
                    "power_w": 0.83 * w,
                    "busy_pct": 100,
                    "clock_limit_mhz": c,
                    "clock_mhz": c,
                    "cap_w": 290,
                }
                for i, (w, c) in enumerate(zip(watts, limits, strict=True))
            ]
            meter_w += (wall_w - meter_w) * 0.33  # the meters are a quarter of a second late
            psus = [{"id": f"psu/{i}", "in_w": meter_w / 2, "in_v": 118.0} for i in range(2)]
            decision = exchanged(process, {"time_s": time_s, "gpus": gpus, "psus": psus, "cpu": {"power_w": 70.0}})
            for action in decision["actions"]:
                if action["do"] == "set_clock_limit":
                    limits[int(action["device"][4:])] = action["clock_mhz"]
            time_s += decision["period_s"]

    command = [PIPE, "--box", "red"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        amps = list(plant(process, 30.0))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    late = [one for time_s, one in amps if time_s > 12.0]
    assert all(sum(late[i : i + 100]) <= 100 * 12.0 for i in range(len(late) - 99))
    assert sum(late) / len(late) >= 0.9 * 12.0


def exchanged(process: "subprocess.Popen[str]", document: Document) -> Document:
    """One line there and one back, at once."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(document) + "\n")
    process.stdin.flush()
    loaded: Document = json.loads(process.stdout.readline())
    return loaded


@pytest.mark.parametrize("policy", NAMES)
def test_every_policy_answers_in_the_same_shape(policy: str) -> None:
    first, second = answered(least(0.0), least(0.1), policy=policy)
    assert set(first) == set(second) == {"time_s", "actions", "reason", "period_s", "power", "alerts"}
    assert all(action["do"] in ("set_clock_limit", "set_cap") for action in first["actions"])


def test_a_figure_that_is_null_missing_or_no_number_is_one_that_could_not_be_read() -> None:
    told, null, missing = least(0.0), least(0.0), least(0.0)
    null["gpus"][0]["power_w"] = None
    del missing["gpus"][0]["power_w"]
    nan = json.dumps(told).replace('"power_w": 200.0', '"power_w": NaN', 1)
    infinite = json.dumps(told).replace('"power_w": 200.0', '"power_w": -Infinity', 1)
    by_kind = [answered(one)[0] for one in (null, missing, nan, infinite)]
    assert len({json.dumps(one["actions"]) for one in by_kind}) == 1
    assert len({one["power"]["amps"] for one in by_kind}) == 1
    assert by_kind[0]["power"]["amps"] > answered(told)[0]["power"]["amps"]
    reasons = [alert["reason"] for one in by_kind[2:] for alert in one["alerts"]]
    assert reasons.count("gpu/0.power_w is not a number") == 2


BAD = [
    ("{", "line 1: not JSON"),
    ("[1, 2]", "line 1: not a JSON object"),
    ('"text"', "line 1: not a JSON object"),
    ('{"gpus": []}', "line 1: 'time_s' is None"),
    ('{"time_s": "soon", "gpus": []}', "line 1: 'time_s' is 'soon'"),
    ('{"time_s": NaN, "gpus": []}', "line 1: 'time_s' is nan"),
    ('{"time_s": true, "gpus": []}', "line 1: 'time_s' is True"),
    ('{"time_s": 0, "gpus": [], "colour": 1}', "line 1: unknown key 'colour'"),
    ('{"time_s": 0, "gpus": [{"id": "gpu/0", "watts": 1}]}', "unknown key 'gpus[0].watts'"),
    ('{"time_s": 0, "gpus": [{"power_w": 1}]}', "key 'gpus[0].id' is missing"),
    ('{"time_s": 0, "gpus": [{"id": "gpu/9"}]}', "line 1: gpus are gpu/9"),
    ('{"time_s": 0, "gpus": [{"id": "gpu/0"}, {"id": "gpu/0"}]}', "line 1: gpus are gpu/0, gpu/0"),
    ('{"time_s": 0, "gpus": [{"id": "gpu/0", "power_w": "much"}]}', "'gpus[0].power_w' is 'much'"),
    ('{"time_s": 0, "gpus": [{"id": "gpu/0", "state": "tired"}]}', "'gpus[0].state' is 'tired'"),
    ('{"time_s": 0, "gpus": {}}', "line 1: 'gpus' is {}"),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_a_line_that_is_no_snapshot_is_named_with_what_is_wrong(line: str, words: str) -> None:
    with pytest.raises(TinyboxError) as error:
        answered(line)
    assert words in error.value.message
    assert error.value.hint


def test_the_line_that_is_wrong_is_counted_from_one_with_the_empty_ones() -> None:
    with pytest.raises(TinyboxError, match="line 4: not JSON"):
        answered(least(0.0), "", "  ", "nonsense")


def test_a_wrong_line_is_two_lines_of_error_and_exit_1_after_the_answers_before_it() -> None:
    done = piped(json.dumps(least(0.0)) + "\nnonsense\n" + json.dumps(least(0.2)) + "\n")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("tinybox-governor-pipe: line 2: not JSON")
    assert second.startswith("  ")


def test_a_wrong_call_is_exit_2_and_a_box_that_is_none_exit_1(tmp_path: Path) -> None:
    assert piped("", "--policy", "magic").returncode == 2
    assert subprocess.run([PIPE], input="", capture_output=True, text=True, timeout=60, check=False).returncode == 2
    done = subprocess.run([PIPE, "--box", "pink"], input="", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    done = piped("", "--config", str(tmp_path / "none.toml"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)


def test_no_lines_are_no_answers() -> None:
    done = piped("")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_owners_settings_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[circuit]\noutlet = "120V/20A"\n[power]\nguarantee = "strict"\n')
    done = piped(json.dumps(least(0.0)) + "\n", "--config", str(path), "--policy", "strict")
    power = json.loads(done.stdout)["power"]
    assert power["budget_a"] == 16.0
    assert power["guarantee"] == "strict"
    assert load_config(path).circuit.outlet == "120V/20A"


def test_a_failsafe_that_does_not_answer_makes_it_strict() -> None:
    (decision,) = answered({**least(0.0), "failsafe_age_s": 5.0})
    assert decision["power"]["guarantee"] == "strict"


def test_a_clock_that_jumps_back_is_answered_and_the_time_is_the_callers_own() -> None:
    times = [100.0, 100.1, 3.0, 3.1, 1e9]
    assert [one["time_s"] for one in answered(*(least(time_s) for time_s in times))] == times


def test_the_same_lines_give_the_same_answers() -> None:
    lines = [least(i / 10) for i in range(30)]
    assert answered(*lines) == answered(*lines)


NUMBERS = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**12), 10**12).map(float),
    st.sampled_from([0.0, -1.0, 1e300, -1e300, 1e-300]),
)
CLOCKS = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.sampled_from([0, -1, 500, 2965]))


@settings(max_examples=25, deadline=None)
@given(
    looks=st.lists(
        st.tuples(
            st.floats(-1e6, 1e6),
            st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, CLOCKS, CLOCKS), min_size=6, max_size=6),
            st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=2),
            st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
        ),
        min_size=1,
        max_size=5,
    ),
    policy=st.sampled_from(("bounded", "strict")),
)
def test_whatever_the_figures_every_answer_is_finite(looks: list[Any], policy: str) -> None:
    documents = [
        {
            "time_s": time_s,
            "gpus": [
                {
                    "id": f"gpu/{i}",
                    "power_w": power,
                    "busy_pct": busy,
                    "cap_w": cap,
                    "clock_limit_mhz": limit,
                    "clock_mhz": mhz,
                }
                for i, (power, busy, cap, limit, mhz) in enumerate(cards)
            ],
            "psus": [{"id": f"psu/{i}", "in_w": watts, "in_v": volts} for i, (watts, volts) in enumerate(psus)],
            "cpu": {"power_w": rest[0], "cap_w": rest[1]},
            "bmc": {"wall_w": rest[2], "line_v": rest[3]},
        }
        for time_s, cards, psus, rest in looks
    ]
    for decision in answered(*documents, policy=policy):
        assert_finite(decision)
        for action in decision["actions"]:
            assert action.get("cap_w", 100.0) >= 100.0
            assert action.get("clock_mhz", 500) >= 500


def assert_finite(value: object) -> None:
    """No NaN and no infinity anywhere in a document."""
    if isinstance(value, dict):
        for one in value.values():
            assert_finite(one)
    elif isinstance(value, list):
        for one in value:
            assert_finite(one)
    elif isinstance(value, float):
        assert math.isfinite(value)
