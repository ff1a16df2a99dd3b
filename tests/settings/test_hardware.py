import os

from vidgen_lab.settings import hardware
from vidgen_lab.settings.hardware import GIB, Probe, free_disk_gib, probe


def machine(**changes):
    facts = dict(
        device="cuda",
        name="Tesla T4",
        capability=(7, 5),
        vram_gib=14.7,
        ram_gib=12.7,
        disk_gib=60.0,
        cores=2,
    )
    return Probe(**(facts | changes))


def test_bfloat16_is_decided_by_compute_capability():
    assert not machine().has_bfloat16
    assert machine(capability=(8, 0)).has_bfloat16
    assert machine(capability=(9, 0)).has_bfloat16
    assert not machine(device="mps", capability=None).has_bfloat16
    assert not machine(device="cpu", capability=None).has_bfloat16


def test_description_names_what_a_reader_needs():
    assert machine().describe() == (
        "Tesla T4, 14.7 GiB GPU memory, capability 7.5, 12.7 GiB RAM, 2 cores, 60 GiB free disk"
    )
    assert "no GPU" in machine(device="cpu", capability=None, vram_gib=0.0).describe()


def test_probe_looks_at_this_machine():
    found = probe()
    assert found.device in ("cuda", "mps", "cpu")
    assert 1 <= found.cores <= os.cpu_count()
    assert found.ram_gib > 0 and found.disk_gib > 0
    assert found.name
    assert (found.device == "cuda") == (found.capability is not None) == (found.vram_gib > 0)


def test_a_container_limit_below_the_host_memory_counts(monkeypatch):
    monkeypatch.setattr(hardware, "_container_memory_limit", lambda: 0.5 * GIB)
    assert probe().ram_gib == 0.5


def test_no_limit_is_infinite(monkeypatch):
    monkeypatch.setattr(hardware.Path, "read_text", lambda self, *a, **k: "max\n")
    assert hardware._container_memory_limit() == float("inf")


def test_free_disk_of_a_folder_that_does_not_exist_yet(tmp_path):
    assert free_disk_gib(tmp_path / "not" / "yet") > 0


def test_importing_settings_loads_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, vidgen_lab.settings.hardware, vidgen_lab.settings.tiers,"
        " vidgen_lab.settings.runs, vidgen_lab.settings.weights; "
        "sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
