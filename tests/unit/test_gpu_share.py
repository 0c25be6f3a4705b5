"""How many candidates share a GPU: the choice, with measurements made up, and the measuring."""

from __future__ import annotations

import json

import pytest
import torch

from tests.benchmarks import bench_gpu
from workers.gpu_share import Trial, best_count, measure_processes, measured_share


class Gpu:
    """A made-up GPU: steps a second and bytes of memory for each number of processes."""

    def __init__(self, rates, memory=10):
        self.rates, self.memory, self.asked = rates, memory, []

    def __call__(self, count):
        self.asked.append(count)
        rate = self.rates.get(count)
        return None if rate is None else Trial(count, rate, self.memory * count, 100, "made up")


def test_the_number_with_the_most_steps_a_second_is_taken():
    gpu = Gpu({1: 100, 2: 180, 4: 260, 8: 240})
    count, trials = best_count(gpu, 0.9)
    assert count == 4
    assert [one.processes for one in trials] == [1, 2, 4, 8]


def test_more_processes_must_gain_something():
    gpu = Gpu({1: 100, 2: 103, 4: 400})
    assert best_count(gpu, 0.9)[0] == 1
    assert gpu.asked == [1, 2]


def test_the_share_of_memory_and_failed_starts_are_limits():
    assert best_count(Gpu({1: 1, 2: 2, 4: 4, 8: 8}, memory=20), 0.9)[0] == 4
    assert best_count(Gpu({1: 1, 2: 2, 4: 4, 8: 8}, memory=20), 0.5)[0] == 2
    assert best_count(Gpu({1: 1, 2: 2}), 0.9)[0] == 2
    assert best_count(Gpu({}), 0.9) == (1, [])


def test_a_kind_of_gpu_is_measured_once(tmp_path):
    known, gpu = tmp_path / "deep" / "share.json", Gpu({1: 100, 2: 190, 4: 195})
    assert measured_share(0.9, gpu, known) == 0.5
    assert measured_share(0.9, gpu, known) == 0.5
    assert gpu.asked == [1, 2, 4]
    assert measured_share(0.8, gpu, known) == 0.5
    assert len(gpu.asked) == 6, "another share of the memory is another question"
    (first, *_) = json.loads(known.read_text()).values()
    assert first["trials"][1]["steps_per_second"] == 190
    known.write_text('{"what": 3}')
    assert measured_share(0.9, gpu, known) == 0.5


def test_a_folder_that_cannot_be_written_costs_a_measurement_each_time(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    gpu = Gpu({1: 100})
    assert measured_share(0.9, gpu, file / "share.json") == 1.0
    assert measured_share(0.9, gpu, file / "share.json") == 1.0
    assert gpu.asked == [1, 2, 1, 2]


def test_a_process_is_measured_for_real():
    found = measure_processes(1, "cpu", steps=1)
    assert found is not None
    assert found.steps_per_second > 0
    assert (found.processes, found.device) == (1, "cpu")
    assert measure_processes(1, "no-such-device", steps=1) is None


def test_the_benchmark_says_why_it_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["bench_gpu"])
    monkeypatch.setattr(bench_gpu, "write_result", lambda *_: pytest.fail("nothing was measured"))
    bench_gpu.main()
    assert capsys.readouterr().out.startswith("skipped: no GPU")


def test_candidates_an_hour_count_all_anchors():
    rows = [{"steps_per_second": {"ours": [100.0, 200.0, 300.0]}}] * 3
    assert bench_gpu.candidates_an_hour(rows, 1000, 1.0) == pytest.approx(240.0)
    assert bench_gpu.candidates_an_hour(rows, 1000, 2.5) == pytest.approx(600.0)
