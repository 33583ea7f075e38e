"""The response probe in the logs of training."""

from pathlib import Path

import pytest
import tiny

from avatar.media import video_info
from avatar.probe import LENGTH
from avatar.recipes.sitters import SitterProbe


@pytest.mark.slow
def test_a_training_run_tells_and_shows_how_far_the_nets_obey(tmp_path: Path) -> None:
    people = SitterProbe(1, tiny.TINY, tiny.vae(random=False))
    found = people.respond(generator=tiny.generator(random=False))
    assert found.keys() == {f"response_{name}" for name in ("jaw", "lips", "blink", "head")}
    # An untrained generator leaves the driven reference as it is, and that obeys.
    assert found["response_jaw"] > 0.3 and found["response_head"] > 0.3
    assert people.respond(decoder=tiny.decoder(random=True)) != found
    figures = people.show(tmp_path, generator=tiny.generator(random=False))
    assert figures["shown_aperture_r"] > 0.5 and {"shown_closure", "shown_opening"} <= figures.keys()
    info = video_info(tmp_path / "person-0.mp4")
    assert (info.frames, info.width, info.height) == (4 * LENGTH, 512, 256)  # true frames beside made ones


def test_a_probe_of_nobody_says_nothing() -> None:
    nobody = SitterProbe(0, tiny.TINY, tiny.vae(random=False))
    assert nobody.respond() == {} and nobody.show(Path("nowhere")) == {}
