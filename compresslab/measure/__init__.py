"""The wing that runs without torch: artifacts, evaluation, benchmark, statistics, budget, frontier.

Nothing is imported here: a measuring process loads `measure.worker` alone, so that its memory is the model's.
"""
