"""The response probe in the logs of training."""

import pytest
import tiny

from avatar.recipes.sitters import SitterProbe


@pytest.mark.slow
def test_a_training_log_tells_how_far_the_nets_obey() -> None:
    people = SitterProbe(1, tiny.TINY, tiny.vae(random=False))
    found = people.respond(generator=tiny.generator(random=False))
    assert found.keys() == {f"response_{name}" for name in ("jaw", "lips", "blink", "head")}
    # An untrained generator leaves the driven reference as it is, and that obeys.
    assert found["response_jaw"] > 0.3 and found["response_head"] > 0.3
    assert people.respond(decoder=tiny.decoder(random=True)) != found


def test_a_probe_of_nobody_says_nothing() -> None:
    assert SitterProbe(0, tiny.TINY, tiny.vae(random=False)).respond() == {}
