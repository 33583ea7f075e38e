"""What `avatar doctor` finds on the machine of the tests."""

import pytest
import torch

from avatar import doctor


def test_everything_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    found = {finding.what: finding for finding in doctor.findings()}
    assert {"CPU", "threads", "memory", "GPU", "attention", "ffmpeg", "preset mini"} <= found.keys()
    assert found["ffmpeg"].verdict == "ok"
    assert found["diffusers"].verdict == "ok"  # the tests need it
    assert all(finding.advice for finding in found.values() if finding.verdict != "ok")
    doctor.run()
    assert "ffmpeg" in capsys.readouterr().out


def test_idle_cores_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_cores", lambda: torch.get_num_threads() + 1)
    finding = doctor._threads()
    assert finding.verdict == "slow"
    assert "OMP_NUM_THREADS" in finding.advice


def test_missing_package_comes_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"no_such_package": ("nothing", "avatar-toolkit[pose]")})
    (finding,) = doctor._extras()
    assert finding.verdict == "missing"
    assert finding.advice == "pip install avatar-toolkit[pose]"
    doctor.run()
    assert "[pose]" in capsys.readouterr().out  # brackets are not taken for markup
