from importlib import metadata

import pytest

from vidgen_lab.settings import report
from vidgen_lab.settings.hardware import Probe
from vidgen_lab.settings.tiers import load_tiers

T4 = Probe("cuda", "Tesla T4", (7, 5), 14.7, 12.7, 60.0, 2)


def test_the_report_names_device_versions_and_what_each_tier_lacks():
    found = report.environment_report(T4)
    assert found["device"]["name"] == "Tesla T4"
    assert found["packages"]["torch"]["installed"] == metadata.version("torch")
    assert list(found["tiers"]) == list(load_tiers())
    assert found["tiers"]["t4"]["lacks"] == []
    assert any("GPU memory" in line for line in found["tiers"]["a100"]["lacks"])
    assert found["tiers"]["t4"]["download_gib"] > 10
    text = report.describe_report(found)
    for part in ("Tesla T4", "14.7 GiB", "ffmpeg", "GiB download", found["python"]):
        assert part in text


def test_missing_and_old_packages_come_with_the_next_step(monkeypatch):
    lines = ["numpy>=2", "torch>=99", "no-such-package>=1", 'pytest>=1; extra == "dev"']
    monkeypatch.setattr(report.metadata, "requires", lambda name: lines)
    packages = report.package_versions()
    assert {name: p["ok"] for name, p in packages.items()} == {
        "numpy": True,
        "torch": False,
        "no-such-package": False,
    }
    text = report.describe_report(report.environment_report(T4) | {"packages": packages})
    assert "no-such-package missing" in text
    assert 'pip install "torch>=99" "no-such-package>=1"' in text


def test_an_uninstalled_checkout_and_a_missing_ffmpeg_are_said(monkeypatch):
    def missing(*_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(report.metadata, "requires", missing)
    assert report.package_versions() == {}
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", _no_ffmpeg)
    found = report.environment_report(T4)
    assert found["ffmpeg"] is None
    text = report.describe_report(found)
    assert "pip install imageio-ffmpeg" in text
    assert "not installed here" in text


def _no_ffmpeg():
    raise RuntimeError("No ffmpeg exe could be found.")
