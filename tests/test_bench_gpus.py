"""GPU metrics during a run: from a DCGM exporter (a real HTTP server in its format), from the driver (the stand-in library)."""

import subprocess
import sys
import time

import pynvml
import pytest
from dcgm import Exporter, Gpu
from nvml import Card, Machine

from benchmarks.errors import BenchmarkError
from benchmarks.gpus import sampler_for
from benchmarks.gpus.dcgm import DcgmExporter
from benchmarks.gpus.means import Sample, energy
from benchmarks.gpus.nvml_sampler import NvmlSource, mig_devices
from benchmarks.gpus.sampling import ThreadSampler
from benchmarks.gpus.values import Device, Reading
from benchmarks.scenarios.scenario import Instance
from partitioner.errors import SpecError
from partitioner.nvml import Meter

MIXED = (
    Instance("4g.40gb", "4g.40gb", start=0),
    Instance("1g.10gb", "1g.10gb", start=4),
    Instance("1g.10gb#2", "1g.10gb", start=5),
)
BUSY = {1: ("4g.40gb", 0.9), 11: ("1g.10gb", 0.3), 12: ("1g.10gb", 0.6)}


@pytest.fixture
def machine(tmp_path):
    layout = [("4g.40gb", 0), ("1g.10gb", 4), ("1g.10gb", 5)]
    with Machine(tmp_path / "nvml", [Card("A100-80GB", mig=True, layout=layout), "T4"]) as machine:
        yield machine


def watch(sampler, enough=lambda: False, *, at_least_s=0.0, limit_s=20.0):
    """Run a sampler until something is so, and for a while."""
    began_s = time.monotonic()
    sampler.start()
    while not enough() and time.monotonic() - began_s < limit_s:
        time.sleep(0.005)
    time.sleep(max(0.0, began_s + at_least_s - time.monotonic()))
    return sampler.stop()


def watch_exporter(exporter, instances, *, readings=4, **options):
    sampler = sampler_for(instances, dcgm_url=exporter.url, interval_s=0.02, **options)
    asked = exporter.asked
    return watch(sampler, lambda: exporter.asked >= asked + readings)


# -- the exporter -------------------------------------------------------------------------------------------------------


def test_figures_of_mig_instances_go_to_the_instances_of_the_scenario():
    with Exporter(Gpu("GPU-a", BUSY)) as exporter:
        metrics = watch_exporter(exporter, MIXED)
    assert metrics.source == "dcgm"
    assert not metrics.notes
    assert [metrics.instances[i.name]["sm_active"] for i in MIXED] == pytest.approx([0.9, 0.3, 0.6])
    assert metrics.instances["1g.10gb#2"]["pcie_tx_bytes_per_s"] == pytest.approx(6e8)
    assert set(metrics.instances["1g.10gb"]) >= {"gr_engine_active", "sm_occupancy", "tensor_active", "dram_active"}


def test_power_under_mig_is_that_of_the_whole_gpu_and_is_counted_once():
    with Exporter(Gpu("GPU-a", BUSY, power_w=240.0)) as exporter:
        began_s = time.monotonic()
        metrics = watch_exporter(exporter, MIXED)
        passed_s = time.monotonic() - began_s
    assert metrics.gpus["GPU-a"]["power_w"] == pytest.approx(240.0)
    for instance in MIXED:
        assert metrics.instances[instance.name]["gpu_power_w"] == pytest.approx(240.0)
        assert "power_w" not in metrics.instances[instance.name]
    assert 0 < metrics.energy_j <= 240.0 * passed_s * 1.05


def test_several_whole_gpus_add_up_and_others_do_not_count():
    gpus = [Gpu("GPU-a", power_w=100, busy=0.1), Gpu("GPU-b", power_w=200, busy=0.2), Gpu("GPU-c", power_w=1e6)]
    chosen = (Instance("7g", "7g.80gb", uuid="GPU-a"), Instance("7g#2", "7g.80gb", gpu=1))
    with Exporter(*gpus) as exporter:
        metrics = watch_exporter(exporter, chosen)
    assert set(metrics.gpus) == {"GPU-a", "GPU-b"}
    assert metrics.instances["7g#2"]["sm_active"] == pytest.approx(0.2)
    assert metrics.instances["7g"]["power_w"] == pytest.approx(100)
    assert 0 < metrics.energy_j < 1e5


def test_instances_that_cannot_be_told_apart_get_no_figures_and_a_note():
    more = {**BUSY, 13: ("1g.10gb", 0.1)}  # one more than the scenario has: which of them are ours?
    with Exporter(Gpu("GPU-a", more)) as exporter:
        metrics = watch_exporter(exporter, MIXED)
    assert set(metrics.instances) == {"4g.40gb"}
    assert [note.partition(":")[0] for note in metrics.notes] == ["1g.10gb", "1g.10gb#2"]
    assert metrics.energy_j > 0  # of the GPU, which is known


def test_uuids_of_mig_devices_decide_where_the_driver_knows_them(machine):
    uuids = {device: uuid for uuid, device in mig_devices().items()}
    gpu = machine.uuid(0)
    third = Device(gpu, 12)
    swapped = Instance("1g.10gb", "1g.10gb", gpu=3, uuid=uuids[third])
    old = Instance("4g.40gb", "4g.40gb", gpu=3, uuid=f"MIG-{gpu}/1/0")
    with Exporter(Gpu(gpu, BUSY)) as exporter:
        metrics = watch_exporter(exporter, (swapped, old))
    assert metrics.instances["1g.10gb"]["sm_active"] == pytest.approx(0.6)
    assert metrics.instances["4g.40gb"]["sm_active"] == pytest.approx(0.9)


def test_hosts_are_told_apart():
    page = (
        'DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-a",Hostname="esx-1.lab"} 0.25\n'
        'DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-b",Hostname="esx-2.lab"} 0.75\n'
    )
    with Exporter() as exporter:
        exporter.page = lambda: page
        metrics = watch_exporter(exporter, (Instance("a", "7g.80gb", host="esx-2"),))
        unclear = watch_exporter(exporter, (Instance("a", "7g.80gb"),))
    assert metrics.instances["a"] == {"sm_active": 0.75}
    assert not unclear.instances
    assert unclear.notes


def test_values_that_mean_no_value_are_no_values():
    with Exporter(Gpu("GPU-a"), mode="blank") as exporter:
        metrics = watch_exporter(exporter, (Instance("7g", "7g.80gb"),))
    assert metrics.instances == {"7g": {}}
    assert metrics.energy_j is None
    assert "neither energy nor power" in metrics.notes[0]


def test_an_exporter_that_collects_rarely_is_noticed_and_told_what_to_change():
    with Exporter(Gpu("GPU-a", step_s=1000.0)) as exporter:
        metrics = watch_exporter(exporter, (Instance("7g", "7g.80gb"),))
    assert metrics.energy_j > 0
    assert "-c 1000" in metrics.notes[0]


@pytest.mark.parametrize(
    ("mode", "said"),
    [("broken", "HTTP 500"), ("garbage", "not Prometheus"), ("hang", "timed out"), ("trickle", "not waited for")],
)
def test_an_exporter_that_fails_costs_the_metrics_and_not_the_run(mode, said):
    with Exporter(Gpu("GPU-a"), mode=mode) as exporter:
        source = DcgmExporter(exporter.url, timeout_s=0.15)
        sampler = ThreadSampler(source, (Instance("7g", "7g.80gb"),), interval_s=0.02, patience_s=0.5)
        metrics = watch(sampler, at_least_s=0.2, limit_s=0.2)
    assert not metrics.instances
    assert metrics.energy_j is None
    assert any(said in note for note in metrics.notes), metrics.notes
    assert any("no GPU metrics of this run" in note for note in metrics.notes)


def test_an_exporter_that_goes_away_in_the_middle_keeps_what_was_seen():
    with Exporter(Gpu("GPU-a", busy=0.8)) as exporter:
        sampler = sampler_for((Instance("7g", "7g.80gb"),), dcgm_url=exporter.url, interval_s=0.02)
        sampler.start()
        while exporter.asked < 4:
            time.sleep(0.005)
        exporter.mode = "broken"
        while exporter.asked < 8:
            time.sleep(0.005)
        metrics = sampler.stop()
    assert metrics.instances["7g"]["sm_active"] == pytest.approx(0.8)
    assert "readings failed" in metrics.notes[0]
    assert exporter.url in metrics.notes[0]


def test_no_exporter_there_at_all():
    with Exporter() as exporter:
        url = exporter.url
    sampler = sampler_for((Instance("7g", "7g.80gb"),), dcgm_url=url, interval_s=0.02)
    metrics = watch(sampler, at_least_s=0.1, limit_s=0.1)
    assert "see whether it runs" in metrics.notes[0]


def test_a_sampler_can_be_used_for_every_repeat_and_stop_without_start_is_harmless():
    with Exporter(Gpu("GPU-a")) as exporter:
        sampler = sampler_for((Instance("7g", "7g.80gb"),), dcgm_url=exporter.url, interval_s=0.02)
        assert sampler.stop().notes == ("the readings were not started",)
        for _ in range(2):
            metrics = watch(sampler, at_least_s=0.05, limit_s=0.05)
            assert metrics.instances["7g"]["sm_active"] == pytest.approx(0.5)


def test_an_address_may_leave_the_path_out_and_must_be_one():
    assert DcgmExporter("http://n1:9400").url == "http://n1:9400/metrics"
    assert DcgmExporter("https://n1/gpu/metrics").url == "https://n1/gpu/metrics"
    for wrong in ("n1:9400", "file:///etc/passwd", "http://", "http://n1:99999", "http://[::1"):
        with pytest.raises(SpecError, match="not an address"):
            sampler_for((), dcgm_url=wrong)


def test_without_prometheus_client_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from benchmarks.gpus import sampler_for\n"
        "from benchmarks.errors import BenchmarkError\n"
        "try: sampler_for((), dcgm_url='http://n1:9400')\n"
        "except BenchmarkError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'gpu-partitioner[bench]'" in done.stdout


def test_importing_loads_no_driver_and_no_prometheus():
    code = "import sys, benchmarks.gpus; print([m for m in ('pynvml', 'prometheus_client') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- energy -------------------------------------------------------------------------------------------------------------


def samples(*points):
    """Samples of one GPU as (time [s], energy [J] or None, power [W])."""
    return [
        Sample(at, (Reading(Device("g"), 0, values={"power_w": power} | ({} if e is None else {"energy_j": e})),))
        for at, e, power in points
    ]


def test_energy_is_what_the_counter_grew_by_over_the_whole_run():
    assert energy(samples((1, 100, 9), (2, 300, 9), (3, 500, 9)), ["g"], 2.5) == (500.0, ())


def test_a_counter_that_moves_rarely_is_read_between_its_changes():
    seen = samples(*((t, 200.0 * (t // 3 * 3), 9.0) for t in range(1, 12)))
    joules, notes = energy(seen, ["g"], 11.0)
    assert joules == pytest.approx(2200.0)
    assert not notes


@pytest.mark.parametrize("counter", [(5, 5, 5), (5, 5, 7), (9, 5, 7), (None, None, None)])
def test_without_a_moving_counter_mean_power_stands_in_and_says_so(counter):
    joules, notes = energy(samples(*((t, e, 100.0 + 20 * t) for t, e in enumerate(counter))), ["g"], 10.0)
    assert joules == pytest.approx(1200.0)
    assert "mean power" in notes[0]


# -- the driver ---------------------------------------------------------------------------------------------------------


def test_the_meter_reads_each_gpu_and_the_memory_of_mig_devices(machine):
    machine.run_process(7, 0, gi=12, memory_mib=1024)
    with Meter() as meter:
        first, second = meter.read()
    assert (first.index, first.uuid) == (0, machine.uuid(0))
    assert (first.power_w, second.power_w) == (100.0, 125.0)
    assert (first.temperature_c, first.sm_clock_mhz) == (40.0, 1410.0)
    assert first.energy_j > 0
    used = {mig.gpu_instance: mig.memory_used_mib for mig in first.mig_devices}
    assert used == {1: 0.0, 11: 0.0, 12: 1024.0}
    assert second.mig_devices == ()


def test_what_a_driver_does_not_tell_is_missing_and_the_rest_is_there(machine):
    machine.fail("nvmlDeviceGetTotalEnergyConsumption", code=pynvml.NVML_ERROR_NOT_SUPPORTED, times=0)
    with Meter() as meter:
        first, second = meter.read()
        assert first.energy_j is None
        assert first.power_w == 100.0
        machine.lose(0)
        first, second = meter.read()
    assert "fell off the bus" in first.problem
    assert (first.power_w, second.power_w) == (None, 125.0)


def test_the_driver_gives_power_and_energy_and_no_utilisation(machine):
    instances = [Instance(i.name, i.profile, start=i.start, uuid=_uuid(i)) for i in MIXED]
    metrics = watch(sampler_for(instances, interval_s=0.05), at_least_s=0.3, limit_s=0.3)
    assert metrics.source == "nvml"
    assert not metrics.notes
    own = metrics.instances["1g.10gb"]
    assert own == {"memory_used_mib": 0.0, "gpu_power_w": 100.0, "gpu_temperature_c": 40.0, "gpu_sm_clock_mhz": 1410.0}
    assert set(metrics.gpus) == {machine.uuid(0)}  # nothing of the T4
    assert metrics.energy_j >= 0.3 * 100.0 * 0.9


def _uuid(instance):
    gi = {0: 1, 4: 11, 5: 12}[instance.start]
    return next(uuid for uuid, device in mig_devices().items() if device.gpu_instance == gi)


def test_a_driver_that_hangs_is_not_waited_for(machine):
    sampler = ThreadSampler(NvmlSource(timeout_s=5.0), [Instance("T4", "T4", gpu=1)], interval_s=0.05, patience_s=0.2)
    machine.fail("nvmlDeviceGetPowerUsage", "hang", hang_s=0.5, times=1)
    metrics = watch(sampler, at_least_s=0.1, limit_s=0.1)
    assert not metrics.instances
    assert any("not waited for" in note for note in metrics.notes)
    assert "still hangs" in watch(sampler, limit_s=0.0).notes[0]
    time.sleep(0.7)  # the call comes back, and the sampler is good again
    assert watch(sampler, at_least_s=0.1, limit_s=0.1).instances["T4"]["power_w"] == 125.0


def test_without_a_driver_there_is_nothing_to_watch_and_the_note_says_why(machine):
    machine.configure(driver_loaded=False)
    metrics = watch(sampler_for(MIXED), limit_s=0.0)
    assert metrics.source == "none"
    assert "driver is not loaded" in metrics.notes[0]
    assert "DCGM exporter" in metrics.notes[0]


@pytest.mark.parametrize("device", ["cpu-slices", "emulated"])
def test_stand_ins_have_no_gpu_metrics(device, machine):
    metrics = watch(sampler_for(MIXED, device=device, dcgm_url="http://127.0.0.1:1"), limit_s=0.0)
    assert metrics.source == "none"
    assert "is not a GPU" in metrics.notes[0]
    assert not machine.counts()


def test_a_failing_exporter_is_a_typed_error_when_it_is_read_directly():
    with Exporter(mode="broken") as exporter, pytest.raises(BenchmarkError, match="HTTP 500"):
        DcgmExporter(exporter.url).read()
