"""Recipes: all settings that determine the result of a training run, as YAML."""
