"""The report: one self-contained HTML file for a run, one for a comparison of methods.

It reads what a run left on disk and needs neither torch nor a running service. Everything that a
policy or a dataset wrote is untrusted text and is escaped.
"""
