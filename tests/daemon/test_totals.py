"""Every kind of action is counted and can be sent over a pipe: none is a surprise to the loop."""

import typing

import pytest

from tinybox.core.actions import Action
from tinybox.core.lines import NAMES
from tinybox.daemon.totals import LEVERS, STEPS


@pytest.mark.parametrize("kind", typing.get_args(Action))
def test_every_action_has_a_counter_and_a_name(kind: type) -> None:
    assert (kind in LEVERS) != (kind in STEPS)
    assert kind in NAMES
