"""A plug-in whose evaluator never comes back."""

import time

import evosearch as es


@es.evaluator("sleeper", objectives=[es.Objective("a", worst=0.0)], baselines=["bn-relu"])
def sleeper(layer, ctx):
    while True:
        time.sleep(3600)
