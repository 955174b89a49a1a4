"""Real processes under real faults: their actions are recorded, and a checker looks for broken promises.

`python -m tests.nemesis redis+local --seconds 60` runs one campaign by hand; `test_campaigns.py` runs short ones.
"""
