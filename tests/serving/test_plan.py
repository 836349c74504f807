"""The plan follows from medians by arithmetic that can be done by hand."""

from __future__ import annotations

from compresslab.measure.measurement import Latency
from compresslab.serving import plan


def latency(batch: int, threads: int, p50: float, graph: str = "model") -> Latency:
    return Latency(graph, batch, threads, "example", "default", "CPUExecutionProvider", p50, None, None, p50, p50, 100)


def test_the_most_examples_a_second_win_with_every_core_in_use() -> None:
    """One thread four times over beats four threads that are twice as fast."""
    found = plan("model", [latency(1, 1, 1.0), latency(1, 4, 0.5)], cores=4, max_batch=64)
    assert (found.threads, found.instances, found.batch) == (1, 4, 1)
    found = plan("model", [latency(1, 1, 1.0), latency(1, 4, 0.2)], cores=4, max_batch=64)
    assert (found.threads, found.instances) == (4, 1)


def test_gathering_is_chosen_only_where_it_pays() -> None:
    pays = plan("model", [latency(1, 1, 1.0), latency(8, 1, 2.0)], cores=2, max_batch=64)
    assert (pays.batch, pays.delay_us) == (8, 1000)
    hardly = plan("model", [latency(1, 1, 1.0), latency(8, 1, 7.7)], cores=2, max_batch=64)
    assert (hardly.batch, hardly.delay_us) == (1, 0)
    assert hardly.why[-1] == "gathering requests does not pay: no larger batch gives 5 % more"


def test_the_smallest_batch_that_is_nearly_as_good_is_taken() -> None:
    points = [latency(1, 1, 1.0), latency(8, 1, 2.0), latency(32, 1, 7.7)]
    assert plan("model", points, cores=1, max_batch=64).batch == 8


def test_without_batch_one_the_wait_is_an_examples_share() -> None:
    assert plan("model", [latency(8, 1, 4.0)], cores=1, max_batch=64).delay_us == 500


def test_what_is_not_known_is_said() -> None:
    only_one = plan("model", [latency(1, 1, 1.0)], cores=2, max_batch=64)
    assert only_one.why[-1] == "only batch 1 was measured, so nothing is known of gathering requests"
    nothing = plan("model", [latency(8, 1, 1.0, graph="text")], cores=3, max_batch=64)
    assert (nothing.threads, nothing.instances, nothing.batch) == (1, 3, 1)
    assert "nothing was measured of this graph" in nothing.why[0]


def test_more_threads_than_the_server_has_cores_do_not_count() -> None:
    found = plan("model", [latency(1, 8, 0.01), latency(1, 1, 1.0)], cores=2, max_batch=64)
    assert found.threads == 1


def test_a_request_may_have_at_least_the_best_batch() -> None:
    points = [latency(1, 1, 1.0), latency(32, 1, 2.0)]
    assert plan("model", points, cores=1, max_batch=4).max_batch == 32
    assert plan("model", points, cores=1, max_batch=100).max_batch == 100


def test_warm_up_takes_a_fifth_of_a_second_of_each_batch() -> None:
    found = plan("model", [latency(1, 1, 10.0), latency(8, 1, 20.0)], cores=1, max_batch=64)
    assert found.warm_up == ((1, 20), (8, 10))
    quick = plan("model", [latency(1, 1, 0.01)], cores=1, max_batch=64)
    assert quick.warm_up == ((1, 100),)
