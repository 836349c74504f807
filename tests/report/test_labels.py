from __future__ import annotations

from itertools import combinations

from compresslab.report.labels import Box, Spot, nearest_edge, place


def test_labels_of_points_in_a_heap_do_not_overlap() -> None:
    spots = [Spot(200 + 3 * index, 150 + 2 * (index % 3), 5, 90, 15) for index in range(8)]
    labels = place(spots, 720, 400)
    assert all(one.box.overlap(other.box) == 0 for one, other in combinations(labels, 2))
    circles = [Box(spot.x - 5, spot.y - 5, spot.x + 5, spot.y + 5) for spot in spots]
    assert all(label.box.overlap(circle) == 0 for label in labels for circle in circles)


def test_labels_stay_inside_the_canvas() -> None:
    corners = [Spot(x, y, 4, 80, 15) for x in (2, 298) for y in (2, 198)]
    assert all(label.box.outside(300, 200) == 0 for label in place(corners, 300, 200))


def test_a_lonely_point_has_its_label_at_its_right_without_a_leader() -> None:
    (label,) = place([Spot(100, 100, 5, 60, 15)], 400, 200)
    assert (label.align, label.leader) == ("left", False)
    assert label.x == label.box.left
    assert 105 < label.box.left < 115


def test_the_first_point_gets_the_best_place() -> None:
    first, second = place([Spot(100, 100, 5, 60, 15), Spot(120, 100, 5, 60, 15)], 400, 200)
    assert first.distance <= second.distance


def test_a_label_leaves_an_obstacle_where_it_can() -> None:
    wall = Box(110, 0, 180, 200)
    (label,) = place([Spot(100, 100, 5, 60, 15)], 400, 200, [wall])
    assert label.box.overlap(wall) == 0


def test_a_leader_ends_at_the_label() -> None:
    crowd = [Spot(100, 100, 60, 70, 15), Spot(100, 100, 2, 70, 15)]
    label = place(crowd, 400, 400)[1]
    assert label.leader
    x, y = nearest_edge(label, crowd[1])
    assert label.box.holds(x, y)
