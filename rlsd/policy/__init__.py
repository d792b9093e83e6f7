"""The language model itself: loading it, installing weights, log-probs of given tokens.

Rollout, teacher and learner share it, so that all three mean the same by a log-prob.
"""
