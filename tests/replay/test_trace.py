"""Traces: what is read, what is refused and how it is said."""

from pathlib import Path

import pytest

from tinybox.core.errors import TinyboxError
from tinybox.replay.trace import Row, Trace, earliest_starts, read_trace, tasks_after

HEADER = "time_s,gpu,kind,load_pct,duration_s\n"
CHAINED = "time_s,gpu,kind,load_pct,duration_s,id,after\n"


def read(folder: Path, text: str | bytes) -> Trace:
    path = folder / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(path)


def test_a_row_is_read_whatever_the_order_of_the_columns(tmp_path: Path) -> None:
    trace = read(tmp_path, "\ufeffduration_s, gpu,time_s,kind,load_pct\r\n\r\n0.250,5,1.500,decode,40\r\n")
    assert trace.rows == (Row(1.5, 5, "decode", 0.4, 0.25),)
    assert trace.end_s == 1.75
    assert trace.work_s == pytest.approx(0.1)
    assert trace.groups == ()


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "the file is empty", "first line"),
        (HEADER, "no rows", "at least one row"),
        (HEADER.replace("kind", "sort"), "line 1: unknown column 'sort'", "kind"),
        ("time_s,gpu,kind,load_pct\n", "line 1: column 'duration_s' is missing", "duration_s"),
        (HEADER.strip() + ",gpu\n", "line 1: column 'gpu' is there twice", "remove"),
        (HEADER.strip() + ",after\n", "column 'id' is missing", "id"),
        (HEADER + "0,0,train,100\n", "line 2: 4 fields, but 5 columns", "one field"),
        (HEADER + "0,0,train,100,1,2\n", "line 2: 6 fields, but 5 columns", "one field"),
        (HEADER + "0,0,train,100,1\n0,six,train,100,1\n", "line 3: gpu is 'six'", "number"),
        (HEADER + "0,6,train,100,1\n", "line 2: gpu is 6", "0 to 5"),
        (HEADER + "0,-1,train,100,1\n", "line 2: gpu is -1", "0 to 5"),
        (HEADER + "0,0.5,train,100,1\n", "line 2: gpu is '0.5'", "number"),
        (HEADER + "0,0,dream,100,1\n", "line 2: kind is 'dream'", "train, prefill, decode, mixed"),
        (HEADER + "0,0,train,0,1\n", "line 2: load_pct is 0", "at most 100"),
        (HEADER + "0,0,train,101,1\n", "line 2: load_pct is 101", "at most 100"),
        (HEADER + "0,0,train,nan,1\n", "line 2: load_pct is nan", "at most 100"),
        (HEADER + "0,0,train,,1\n", "line 2: load_pct is ''", "number"),
        (HEADER + "-1,0,train,100,1\n", "line 2: time_s is -1", "0 or more"),
        (HEADER + "inf,0,train,100,1\n", "line 2: time_s is inf", "0 or more"),
        (HEADER + "0,0,train,100,0\n", "line 2: duration_s is 0", "0.001 or more"),
        (HEADER + "0,0,train,100,-1\n", "line 2: duration_s is -1", "0.001 or more"),
        (HEADER + "0,0,train,100,nan\n", "line 2: duration_s is nan", "0.001 or more"),
        (HEADER + "1,0,train,100,1\n0,1,train,100,1\n", "line 3: time_s 0 comes after 1", "sort"),
        (HEADER + "0,0,train,100,1\n0.998,0,train,100,1\n", "line 3: gpu 0 is asked from 0.998 s", "overlap"),
        (HEADER + '0,0,"train,100,1\n', "not CSV", "mend"),
        (HEADER.encode() + b"0,0,tr\xff,100,1\n", "not UTF-8", "UTF-8"),
        (CHAINED + "0,0,decode,100,1,,x\n", "line 2: after 'x' names a row that is not there", "earlier row"),
        (CHAINED + "0,0,decode,100,1,x,x\n", "line 2: after 'x' names itself or a later row", "earlier row"),
        (CHAINED + "0,0,decode,100,1,a,b\n0,1,decode,100,1,b,a\n", "line 2: after 'b' names itself", "earlier row"),
        (CHAINED + "0,0,decode,100,1,a,\n2,0,decode,100,1,a,\n", "line 3: id 'a' is there twice", "of its own"),
    ],
)
def test_what_is_wrong_names_the_place_and_what_to_do(tmp_path: Path, text: str | bytes, said: str, hint: str) -> None:
    with pytest.raises(TinyboxError) as caught:
        read(tmp_path, text)
    assert said in caught.value.message
    assert "trace.csv" in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_file_is_an_error_of_two_lines(tmp_path: Path) -> None:
    with pytest.raises(TinyboxError, match="cannot read"):
        read_trace(tmp_path / "none.csv")


def test_train_rows_of_equal_time_and_duration_are_one_job(tmp_path: Path) -> None:
    rows = "0,0,train,100,5\n0,1,train,50,5\n0,2,train,50,4\n0,3,decode,50,5\n0,4,decode,50,5\n"
    assert read(tmp_path, HEADER + rows).groups == ((0, 1),)


def test_a_row_may_start_where_the_last_one_ends_and_a_millisecond_earlier() -> None:
    trace = Trace.of([Row(0, 0, "decode", 1, 1.0), Row(1.0, 0, "decode", 1, 1.0), Row(1.999, 0, "decode", 1, 1.0)])
    assert [row.duration_s for row in trace.rows] == pytest.approx([1.0, 0.999, 1.0])
    inside = Trace.of([Row(0, 0, "decode", 1, 1.0), Row(0.5, 0, "decode", 1, 0.001)])
    assert [row.duration_s for row in inside.rows] == [1.0, 0.0]


def test_a_job_is_trimmed_as_a_whole() -> None:
    rows = [Row(0, 0, "train", 1, 1.0), Row(0, 1, "train", 1, 1.0), Row(0.999, 0, "decode", 1, 1.0)]
    assert [row.duration_s for row in Trace.of(rows).rows] == pytest.approx([0.999, 0.999, 1.0])


def test_rows_in_a_chain_float_and_may_overlap(tmp_path: Path) -> None:
    text = CHAINED + "0,0,decode,100,1,a,\n0.1,0,decode,100,1,b,a\n0.2,1,decode,50,2,,b\n0.2,2,train,50,1,alone,\n"
    trace = read(tmp_path, text)
    assert trace.after == (-1, 0, 1, -1)
    assert trace.is_task == (True, True, True, False)
    assert tasks_after(trace) == {0: (1,), 1: (2,)}
    assert earliest_starts(trace) == [0.0, 1.0, 2.0, 0.2]
    assert trace.end_s == 4.0


def test_a_trace_in_memory_is_checked_as_well() -> None:
    with pytest.raises(TinyboxError, match="row 2: gpu is 6"):
        Trace.of([Row(0, 0, "train", 1, 1), Row(0, 6, "train", 1, 1)])
