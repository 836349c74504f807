from __future__ import annotations

from compresslab.report.headline import budget_sentence, headline, picture_text, selection, warnings
from compresslab.report.schema import Results


def test_the_headline_has_every_figure_with_its_interval(found: Results) -> None:
    assert headline(found) == (
        "quantize mode=qat is 34.1x smaller (2,828 -> 82.9 kB) and 10.4x [10.2, 10.6] faster than baseline, "
        "at -0.76 [-1.06, -0.46] points of test accuracy (92.91 [92.41, 93.41] %)."
    )
    assert selection(found) == "Chosen on validation: the smallest model within the budget."


def test_a_slower_and_larger_model_is_called_that(found: Results) -> None:
    found["selected"] = "b111"
    versus = found["points"][1]["versus_baseline"]
    assert versus is not None
    versus["size_ratio"] = 0.5
    versus["speedup"] = {"value": 0.8, "low": 0.78, "high": 0.82}
    assert "is 2.00x larger (2,828 -> 339 kB) and 1.25x [1.22, 1.28] slower than baseline" in headline(found)


def test_a_speed_up_whose_interval_holds_one_is_not_claimed(found: Results) -> None:
    versus = found["points"][4]["versus_baseline"]
    assert versus is not None
    versus["speedup"] = {"value": 1.02, "low": 0.98, "high": 1.06}
    assert "not measurably faster (1.02x [0.980, 1.06]) than baseline" in headline(found)


def test_no_selected_model(found: Results) -> None:
    found["selected"], found["budget"] = None, {"status": "fail", "violations": ["p50_ms: 0.06 > 0.05"]}
    assert headline(found) == "No model was selected: every one of the 6 is over the budget."
    assert budget_sentence(found) == "Over the budget."
    assert selection(found).startswith("Ease the budget")


def test_the_baseline_selected(found: Results) -> None:
    found["selected"], found["select"] = "a000", "most_accurate"
    assert headline(found) == "baseline itself is selected: no other point within the budget is more accurate."


def test_a_choice_among_what_may_be_within_the_budget_says_so(found: Results) -> None:
    found["budget"] = {"status": "inconclusive", "violations": []}
    assert "may be within the budget; none is for certain" in selection(found)


def test_stages_that_bought_no_speed_are_warned_of_with_the_reason(found: Results) -> None:
    assert warnings(found) == [
        "quantize mode=ptq made the model slower (0.945x [0.926, 0.964]): "
        "8 of 12 convolutions have fewer than 16 channels; 4 of 18 operators run in float."
    ]
    versus = found["points"][2]["versus_parent"]
    assert versus is not None
    versus["verdict"] = "inconclusive"
    assert warnings(found)[0].startswith("prune may or may not have made the model faster")


def test_the_picture_in_words_names_every_point(found: Results) -> None:
    text = picture_text(found)
    assert "baseline: 0.640 ms, 93.67 %, 2,828 kB" in text
    assert text.count(" kB") == 6
