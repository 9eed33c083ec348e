"""Evaluation of models: metrics with intervals, calibration, comparisons, figures."""
